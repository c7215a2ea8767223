"""One catalog for each way in which product managers' files go wrong, as the issue tracker and bad days name them."""

from collections.abc import Mapping

GOOD = b"""\
features:
  tier: {type: enum, values: [free, premium]}
  market: {type: enum, values: [SE, NO]}
  days: {type: int}
surfaces:
  banner: {fallback: monthly}
offers:
  annual: {owner: growth, group: upgrade, surfaces: [banner], score: {value: 40.0}}
  monthly: {owner: growth, group: upgrade, surfaces: [banner], score: {value: 5.0}}
exploration: {uniform: 0.0}
"""

_OFFER = "offers: {{extra: {{owner: growth, group: upgrade, surfaces: [banner], {}}}}}"
_AUDIENCES = b"audiences: {lapsed: {audience: loyal}, loyal: {audience: lapsed}}"
_ARMS = b"""\
experiments:
  price:
    layer: pricing
    arms:
      low: {percent: 60, set: {offers.annual.score.value: 30}}
      high: {percent: 60}
"""

BAD: Mapping[str, tuple[bytes, str]] = {
    "aliases that blow up": (b"a: &a [x, x]\nb: [*a, *a, *a]", "anchors and aliases"),
    "nested too deep": (b"a: " + b"[" * 10_000, "nested more than 20 deep"),
    "ten megabytes": (b"#" + b"x" * 10_000_000, "10,000,001 bytes"),
    "a key twice": (b"caps:\n  weekly: {max: 1, per: 7d}\n  weekly: {max: 2, per: 7d}", "given twice"),
    "a tab": (b"caps:\n\tweekly: {max: 1, per: 7d}", "there is a tab"),
    "not UTF-8": (b"offers:\n  \xff\xfe: {}", "not UTF-8"),
    "a market nobody knows": (_OFFER.format("eligible: {market: [NOR]}").encode(), 'Did you mean "NO"?'),
    "a time where a number stands": (_OFFER.format("score: {value: 22:00}").encode(), 'got "22:00"'),
    "a number as text": (_OFFER.format('score: {value: "40"}').encode(), "in quotes, which is text"),
    "not a number": (_OFFER.format("score: {value: .nan}").encode(), 'got ".nan"'),
    "a name of Python's own": (b"offers: {__class__: {owner: a, group: b, surfaces: [banner]}}", "can't be a name"),
    "a range that nobody is in": (_OFFER.format("eligible: {days: {min: 9, max: 3}}").encode(), "no value can do"),
    "audiences that name each other": (
        b"audiences: {lapsed: {audience: loyal}, loyal: {audience: lapsed}}",
        "audiences go in a circle",
    ),
    "arms of more than everybody": (_ARMS, "add up to 120"),
    "a lever without an end": (
        b"levers: {push: {only: {offer: annual}, times: 1.2, owner: growth, why: spring}}",
        '"until" is missing',
    ),
    "a fallback that rules can take away": (
        b"surfaces: {shelf: {fallback: rare}}\n"
        b"offers: {rare: {owner: growth, group: upgrade, surfaces: [shelf], eligible: {tier: free}}}",
        "can be filtered away",
    ),
    "an invariant that a rule breaks": (
        b"invariants: {paid_enough: {when: {tier: premium}, never: {group: upgrade}}}",
        "paid_enough",
    ),
}
"""By what is wrong: the file beside `GOOD`, and words of its error."""


def with_bad(content: bytes) -> dict[str, bytes]:
    """The files of a catalog that was good until `bad.yaml` came."""
    return {"all.yaml": GOOD, "bad.yaml": content}
