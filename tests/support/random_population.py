"""Many random conditions and users by seed: what hypothesis draws one at a time, by the hundred and the thousand."""

from random import Random

from random_conditions import ADDONS, DAY, NOW, TIERS, VERSIONS

from decisioning.conditions import AllOf, AnyOf, Condition, Op, Test
from decisioning.domain import Value

RANGES = (Op.MIN, Op.MAX, Op.ABOVE, Op.BELOW)


def random_condition(random: Random, depth: int = 4) -> Condition:
    """A nested condition over `random_conditions.FEATURES`; now and then an empty one."""
    if depth == 0 or random.random() < 0.3:
        return random_test(random)
    children = tuple(random_condition(random, depth - 1) for _ in range(random.choice((0, 1, 2, 2, 3, 3, 4))))
    return random.choice((AllOf, AnyOf))(children)


def random_test(random: Random) -> Test:
    some = lambda names: tuple(random.sample(names, random.randint(1, len(names))))  # noqa: E731
    feature = random.choice(("tier", "student", "sessions", "minutes", "addons", "joined", "app"))
    if random.random() < 0.1:
        return Test(feature, random.choice((Op.MISSING, Op.PRESENT)))
    match feature:
        case "tier":
            return Test(feature, random.choice((Op.IS, Op.IS_NOT)), some(TIERS))
        case "student":
            return Test(feature, random.choice((Op.IS, Op.IS_NOT)), (random.random() < 0.5,))
        case "sessions" if random.random() < 0.3:
            return Test(feature, random.choice((Op.IS, Op.IS_NOT)), some(range(-3, 4)))
        case "sessions":
            return Test(feature, random.choice(RANGES), random.randint(-3, 3))
        case "minutes":
            return Test(feature, random.choice(RANGES), random.choice((random.randint(-4, 4) / 2, 0.1, 1)))
        case "addons":
            return Test(feature, random.choice((Op.HAS, Op.HAS_ANY, Op.LACKS)), some(ADDONS))
        case "joined":
            return Test(feature, random.choice((Op.WITHIN, Op.OLDER_THAN)), random.randint(-2, 3) * DAY)
    return Test(feature, random.choice((Op.VERSION_MIN, Op.VERSION_BELOW)), random.choice(VERSIONS))


def random_user(random: Random) -> dict[str, Value]:
    """Some facts; each is absent, or None, for about one user in five."""
    known: dict[str, Value] = {
        "tier": random.choice(TIERS),
        "student": random.random() < 0.5,
        "sessions": random.randint(-3, 3),
        "minutes": random.choice((random.randint(-4, 4) / 2, random.uniform(-3, 3), 0.1)),
        "addons": frozenset(name for name in ADDONS if random.random() < 0.4),
        "joined": NOW - random.choice((random.randint(-2, 4), random.uniform(-2, 4))) * DAY,
        "app": random.choice(VERSIONS),
    }
    chances = {name: random.random() for name in known}
    return {name: value if chances[name] > 0.1 else None for name, value in known.items() if chances[name] < 0.9}
