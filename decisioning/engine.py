"""`decide`: the one function that makes every decision, online, in batch, in replay, in simulation, in evaluation.

Pure: the same release, request and facts give the same Decision, to the last bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from decisioning.arbitration import Ranking, arbitrate, choice, order
from decisioning.by_decider import Decide, decider
from decisioning.by_examiner import Examine, examiner
from decisioning.catalog import Catalog
from decisioning.domain import (
    MILLION,
    NOTHING,
    Decision,
    Facts,
    Policy,
    Request,
    Rung,
    Scorer,
    Shown,
    Source,
    Value,
    record,
)
from decisioning.errors import UserError
from decisioning.experiments import ABLATION, NO_MODEL, Assignment
from decisioning.exploration import certain, chosen, mixture
from decisioning.factors import Factors
from decisioning.identity import draw
from decisioning.knowledge import Knowledge
from decisioning.plan import Screen, SurfacePlan
from decisioning.recalled import recalled
from decisioning.slate import Company


@dataclass(frozen=True)
class Release:
    """All that a decision needs besides facts. Without scorers, the rules decide by the catalog's priors."""

    id: str
    catalog: Catalog
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    challengers: Mapping[str, Scorer] = field(default_factory=dict)
    salt: str = ""

    @cached_property
    def plans(self) -> dict[str, SurfacePlan]:
        """Each surface, compiled: the costly part of a release, so touch it before the first request."""
        return {name: SurfacePlan(self.catalog, surface) for name, surface in self.catalog.surfaces.items()}

    @cached_property
    def deciders(self) -> Mapping[str, Decide]:
        """`decide` for each surface."""
        return {name: decider(self, plan, Case, decided, _rival) for name, plan in self.plans.items()}

    @cached_property
    def knowledge(self) -> Knowledge:
        return Knowledge(self.catalog)

    @cached_property
    def assignment(self) -> Assignment:
        return Assignment(self.catalog)

    @cached_property
    def examiners(self) -> "dict[str, Examine[Release, Case]]":
        """`examine` for each surface."""
        return {
            name: examiner(plan, self.knowledge, self.assignment, Case, examined) for name, plan in self.plans.items()
        }

    @cached_property
    def rivals(self) -> Mapping[str, Scorer]:
        """What a challenger decides with: its own models, and the champions of those that nobody challenges."""
        return {**self.scorers, **self.challengers}

    @cached_property
    def absent(self) -> tuple[str, ...]:
        """What an answer must admit: models that the catalog asks for and nobody brought."""
        return tuple(f"model:{name}:none" for name in self.catalog.models if name not in self.scorers)


@record
class Case:
    """One request on its way to a decision: what was asked, what is known, and what the rules left."""

    release: Release
    plan: SurfacePlan
    request: Request
    facts: Facts
    values: Mapping[str, Value]
    screen: Screen
    arms: Mapping[str, str]
    holdout: str | None

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        """What scores the offers: the release's models, or what takes their place where the server was behind."""
        return recalled(self.release.scorers, self.facts.shed)


def decide(release: Release, request: Request, facts: Facts) -> Decision:
    """Which offers this user sees: drop what the rules forbid, score and rank what is left, draw.

    Raises UserError for a surface that the catalog does not have; nothing else, for facts of the declared types.
    """
    by_rules = release.deciders.get(request.surface)
    if by_rules is None:
        raise _no_surface(release)
    return by_rules(release, request, facts)


def decided(case: Case) -> Decision:
    """What is chosen of what the rules left, by Python: what is right."""
    release, request, facts = case.release, case.request, case.facts
    if facts.shed is not None and facts.shed.rung is Rung.FALLBACK:
        return _fall_back(case, None)
    simple = case.holdout is not None
    ranking = rank(case, release.scorers if facts.shed is None else case.scorers, simple=simple)
    fate = draw(release.salt, request.decision_id)
    ghost = _ghost(case, fate) if simple else None
    if not ranking.left.names:
        return _fall_back(case, ghost)
    first = choice(ranking, case.plan.surface, request.user, release.id)
    policy = certain(first, fate) if simple else _policy(case, ranking, first, fate)
    return Decision(
        decision_id=request.decision_id,
        surface=request.surface,
        release=release.id,
        slate=_slate(case, ranking, policy),
        source=Source.MODEL if ranking.labels else Source.RULES,
        model=",".join(sorted(ranking.labels)) or None,
        degraded=(*facts.degraded, *release.absent),
        eligible=ranking.left.names,
        p_convert=tuple(ranking.p_convert),
        scores=tuple(ranking.scores),
        truth=f"{case.screen.word:x}",
        policy=policy,
        arms=case.arms,
        holdout=case.holdout,
        ghost=ghost,
    )


def examine(release: Release, request: Request, facts: Facts) -> Case:
    """What is known, where the user stands in experiments, and what the rules leave of the surface's offers."""
    by_rules = release.examiners.get(request.surface)
    if by_rules is None:
        raise _no_surface(release)
    return by_rules(release, request, facts)


def _no_surface(release: Release) -> UserError:
    known = ", ".join(sorted(release.catalog.surfaces))
    return UserError(f"There is no surface of that name. The catalog has: {known}.")


def examined(release: Release, request: Request, facts: Facts) -> Case:
    """`examine` by Python, for a surface that there is: what is right."""
    plan = release.plans[request.surface]
    values = release.knowledge.values(request, facts)
    holdout = release.assignment.holdout(request.user, request.surface)
    screen = plan.screen(request, facts, values)
    arms = {} if holdout else release.assignment.arms(request.user, screen.audiences)
    return Case(release, plan, request, facts, values, screen, arms, holdout.name if holdout else None)


def rank(case: Case, scorers: Mapping[str, Scorer], *, simple: bool = False, factors: Factors | None = None) -> Ranking:
    """What is left, scored and held against the thresholds. Unread features leave no room for personal scores.

    `simple` is the best single offer policy that the held out get: each offer's mean for everybody, no levers, no
    context weights, no experiments. `factors`, for what-ifs, takes the place of those that hold.
    """
    if factors is None:
        factors = case.plan.factors(case.request.now, case.arms, case.screen.weights, simple=simple)
    personal = not simple and "features" not in case.facts.unread and case.arms.get(ABLATION) != NO_MODEL
    return arbitrate(case.plan, case.screen.left, factors, scorers, case.values, personal=personal)


def _policy(case: Case, ranking: Ranking, first: str, fate: int) -> Policy:
    """The mixture over what is left. A challenger's choice counts only where it is among that.

    Where the server was behind, no challenger was asked, so that none has a share of the draw.
    """
    release, surface = case.release, case.plan.surface
    actions = (*ranking.left.names, NOTHING) if surface.allow_nothing else ranking.left.names
    challenger = None
    if release.challengers and case.facts.shed is None:
        theirs = _rival(case)
        challenger = theirs if theirs in actions else None
    exploration = release.catalog.exploration
    return mixture(actions, first, challenger, uniform=exploration.uniform, canary=exploration.challenger, draw=fate)


def _rival(case: Case) -> str:
    """A challenger's choice."""
    release = case.release
    return choice(rank(case, release.rivals), case.plan.surface, case.request.user, release.id)


def _ghost(held: Case, fate: int) -> str:
    """What a held-out user would have been shown first, with the arms that they would have been in."""
    release, request = held.release, held.request
    arms = release.assignment.arms(request.user, held.screen.audiences)
    case = Case(release, held.plan, request, held.facts, held.values, held.screen, arms, None)
    full = rank(case, case.scorers)
    if not full.left.names:
        return _fallback(case) or NOTHING
    first = choice(full, case.plan.surface, request.user, release.id)
    return chosen(_policy(case, full, first, fate))


def _slate(case: Case, ranking: Ranking, policy: Policy) -> tuple[Shown, ...]:
    """The slots, and the chance that each had of holding what it holds. Only slot 1 explores."""
    first = chosen(policy)
    if first == NOTHING:
        return ()
    if case.plan.surface.slots == 1 or _slots(case) == 1:
        return (_shown(case, ranking, first, 1, policy.weight(first)),)
    company = company_of(case, ranking)
    slate = company.slate(first)
    odds = company.odds(slate, policy)
    return tuple(_shown(case, ranking, name, slot + 1, odds[slot]) for slot, name in enumerate(slate))


def _slots(case: Case) -> int:
    return min(case.request.slots or case.plan.surface.slots, case.plan.surface.slots)


def company_of(case: Case, ranking: Ranking) -> Company:
    """What is left, on its way into the slots."""
    slots, names, scores = _slots(case), ranking.left.names, ranking.scores
    ranked = [(names[place], scores[place]) for place in order(ranking, case.request.user, case.release.id)]
    return case.plan.slots.company(ranked, slots, case.plan.limits.rooms(case.request, case.facts, slots))


def _shown(case: Case, ranking: Ranking, name: str, slot: int, weight: int) -> Shown:
    place = ranking.left.names.index(name)
    p_convert, score = ranking.p_convert[place], ranking.scores[place]
    return Shown(name, slot, _creative(case, name), p_convert, score, weight / MILLION)


def _creative(case: Case, name: str) -> str | None:
    creative = case.release.catalog.offers[name].creative
    locale = case.request.context.get("locale")
    return creative.localised(locale if isinstance(locale, str) else None) if creative else None


def _fallback(case: Case) -> str | None:
    """The surface's fallback, itself subject to guards."""
    return case.plan.surface.fallback if case.plan.against_fallback(case.screen) is None else None


def _fall_back(case: Case, ghost: str | None) -> Decision:
    """Nothing is left: the surface's fallback, or no offer."""
    name = _fallback(case)
    return Decision(
        decision_id=case.request.decision_id,
        surface=case.request.surface,
        release=case.release.id,
        slate=() if name is None else (Shown(name, 1, _creative(case, name), None, None, 1.0),),
        source=Source.NONE if name is None else Source.FALLBACK,
        model=None,
        degraded=(*case.facts.degraded, *case.release.absent),
        eligible=(),
        p_convert=(),
        scores=(),
        truth=f"{case.screen.word:x}",
        policy=None,
        arms=case.arms,
        holdout=case.holdout,
        ghost=ghost,
    )
