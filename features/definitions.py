"""What is known about a listener: each feature declared once, for training and serving alike.

Two tables are the source. `users`: `user_id`, `signup_at`, `born_at`, `market`. `events`: `user_id`, `at`, `type`,
`item`, `amount`, `hour` (of the listener's own clock). What changes slowly (tier, consent, student status) comes from
events too, so that every value can be told as of any moment. A catalog uses those that its `features.yaml` names.
"""

from collections.abc import Iterable

from features.declared.account import PAYING, WHO
from features.declared.fandom import FANDOM
from features.declared.listening import FRICTION, LISTENING
from features.declared.offers import OFFERS
from features.feature import Feature
from features.schema import Schema

TOPICS: dict[str, tuple[Feature, ...]] = {
    "Who": WHO,
    "Payments": PAYING,
    "How they listen": LISTENING,
    "What gets in the way": FRICTION,
    "Artists and merchandise": FANDOM,
    "How they take our offers": OFFERS,
}
FEATURES: tuple[Feature, ...] = tuple(feature for topic in TOPICS.values() for feature in topic)
SCHEMA = Schema(tuple(feature.spec for feature in FEATURES))


def defined(names: Iterable[str]) -> tuple[Feature, ...]:
    """The definitions of these names, in the order of `FEATURES`. What nothing computes is left out."""
    wanted = frozenset(names)
    return tuple(feature for feature in FEATURES if feature.name in wanted)
