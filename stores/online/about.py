"""What there is to ask about any user, and what to make of the answers, where all is as usual.

Every decision does both, so that both are one call of the extension `_about.c`, where it is built. Here is what says
what is right, and what answers where anything is unusual.
"""

from collections.abc import Callable
from typing import Any

from decisioning.domain import Facts, record
from decisioning.native import native
from features.schema import TAG_BYTES, Schema
from stores.online.fresh import freshen
from stores.online.layout import Version, unpack_history
from stores.online.questions import MOST_BUCKETS, USER_DIGITS, Questions
from stores.online.reading import Shared, facts

VERSION = 1
"""Of what Python and the extension ask of one another: both have the same."""


@record
class About:
    """Of the users of one version of the features, read under one schema."""

    version: Version
    schema: Schema
    question: Callable[[str], bytes]
    """By the user's key: the three commands of `Questions.about`, in a row."""
    facts: Callable[[list[Any], Shared], Facts]
    """Of the three answers, and of what the facts of many have in common. Raises what `reading.facts` raises."""


def about(questions: Questions, version: Version, schema: Schema) -> About:
    def question(user: str) -> bytes:
        return b"".join(questions.about(user, version))

    def found(answers: list[Any], shared: Shared) -> Facts:
        history, fresh, packed = answers
        return facts(version, packed, history, fresh, shared, schema)

    extension = native("stores.online._about", VERSION)
    if extension is None:
        return About(version, schema, question, found)
    both = extension.About(
        question=question,
        found=found,
        facts=Facts,
        shared=Shared,
        digits=USER_DIGITS,
        pieces=questions.pieces(version),
        buckets=min(version.buckets, MOST_BUCKETS),
        tag=schema.tag,
        width=schema.width,
        start=TAG_BYTES,
        unpack=schema.unpack,
        unpack_history=unpack_history,
        as_of=version.as_of,
        counting=schema.counting,
        freshen=freshen,
    )
    return About(version, schema, both.question, both.facts)
