"""The least change that would show an offer: what to wait for, what the user should be, which lever to pull.

Found by supposing it and deciding again, until the offer is in the slate of the best draw, or nothing that can be named
brings it there; then the words say so. What they say is enough as it is printed: numbers are rounded up.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf, isfinite, nextafter, prod

from decisioning.arbitration import Ranking, choice, score
from decisioning.catalog import Factor
from decisioning.conditions import AllOf
from decisioning.domain import Change, Stage
from decisioning.engine import Case, company_of
from decisioning.experiments import ablated
from decisioning.figures import least, rounded_up, span_up
from decisioning.supposed import Supposed
from decisioning.waits import End, end
from decisioning.witness import avoided, nearest
from decisioning.words import words

MOST_ROUNDS = 12
"""How often it is decided again for one offer."""
MOST_WAITS = 100
"""How many ends of rules are waited for, one after the other."""
NEVER = "it would still not be shown"
_VALUES = (Stage.ELIGIBLE, Stage.INVARIANT, Stage.GUARD)


def least_change(supposed: Supposed) -> Change:
    """What would show an offer that is not shown."""
    return _Search(supposed).change()


class _Search:
    """One offer's way into the slate, a step at a time."""

    def __init__(self, supposed: Supposed) -> None:
        self._now = supposed
        self._started = supposed.request.now
        self._offer = supposed.offer
        self._told: dict[str, tuple[int, str]] = {}
        """What is asked for so far, by what it is about, with its round: a later word on the same replaces it."""
        self._round = 0
        self._wait: float | None = None
        self._lever: float | None = None
        self._only_waits = True

    def change(self) -> Change:
        for self._round in range(MOST_ROUNDS):
            case = self._now.case
            dropped = self._against(self._now, case) or self._now.kept_until > self._now.request.now
            if not (self._past_rules() if dropped else self._into_slate(case)):
                break
        else:
            self._stop(NEVER)
        return Change(self._words() or "another draw shows it", self._wait if self._only_waits else None, self._lever)

    def _words(self) -> str:
        said, before = "", -1
        for number, clause in self._told.values():
            said += (("; and " if number == before else "; and then ") if said else "") + clause
            before = number
        return said

    def _tell(self, about: str, clause: str) -> bool:
        self._told.pop(about, None)
        self._told[about] = (self._round, clause)
        return True

    def _stop(self, clause: str) -> bool:
        """Nothing that could be named leads further."""
        self._only_waits = False
        self._tell("end", clause)
        return False

    # --- Past the rules

    def _against(self, now: Supposed, case: Case) -> list[tuple[Stage, int]]:
        """The rules that keep the offer away. A fallback where nothing else is left has to pass but a few."""
        bit, screen = case.plan.bits[self._offer.name], case.screen
        found = [(stage, position) for stage, position, mask in screen.drops if mask & bit]
        if found and self._offer.name == case.plan.surface.fallback and not now.ranking(case).left.names:
            drop = case.plan.against_fallback(screen)
            return [] if drop is None else [drop[:2]]
        return found

    def _past_rules(self) -> bool:
        """Waits for what passes by itself, then undoes the rest."""
        waited = self._waited()
        if waited is None:
            return self._stop(NEVER)
        case = self._now.case
        against = self._against(self._now, case)
        for stage, position in against:
            if stage is Stage.CAP and "history" not in self._now.facts.unread:
                return self._stop(f"never, while caps.{case.plan.catalog.caps[position].name} allows none")
            if stage not in _VALUES:
                self._undo(case, stage, position)
        if any(stage in _VALUES for stage, _ in against) and not self._be(case):
            return self._stop("only if its rules asked less: no values were found that meet them all")
        self._only_waits = self._only_waits and not against
        return self._tell(f"wait {self._round}", waited) if waited else True

    def _undo(self, case: Case, stage: Stage, position: int) -> None:
        now, name, catalog = self._now, self._offer.name, case.plan.catalog
        match stage:
            case Stage.KILLED:
                self._tell("killed", "revive it")
                self._now = replace(now, facts=replace(now.facts, killed=now.facts.killed - {name}))
            case Stage.EXCLUDED:
                self._tell("excluded", "leave it out of the request's exclude")
                self._now = replace(now, request=replace(now.request, exclude=now.request.exclude - {name}))
            case Stage.CAP:
                self._tell("history", "when the history can be read again")
                self._now = replace(now, facts=replace(now.facts, unread=now.facts.unread - {"history"}))
            case Stage.BUDGET if catalog.budgets[position].name not in now.facts.budgets:
                budget = catalog.budgets[position].name
                self._tell(f"budget {budget}", f"when the budget {budget} can be read again")
                self._now = replace(now, facts=replace(now.facts, budgets={**now.facts.budgets, budget: 0}))
            case _:
                self._tell(f"{stage} {position}", self._lifted(case, stage, position))
                self._now = replace(now, lifted=now.lifted | {(stage, position)})

    def _lifted(self, case: Case, stage: Stage, position: int) -> str:
        """What would have to be written otherwise for a rule to let the offer through."""
        if stage is Stage.LIVE:
            return "a later end of its live window"
        if stage is Stage.QUIET:
            return f"if the quiet hours {case.plan.catalog.quiet_hours[position].name} were shorter"
        budget = case.plan.catalog.budgets[position].name
        return f"if the budget {budget} were more than {self._now.facts.budgets[budget]} impressions"

    def _be(self, case: Case) -> bool:
        """Supposes the nearest values that meet all that the offer asks. False where there are none."""
        plan, bit = case.plan, case.plan.bits[self._offer.name]
        asked = [self._offer.eligible] if self._offer.eligible is not None and bit & plan.everything else []
        for rule in plan.rules:
            if rule.covers & bit:
                asked.append(rule.condition if rule.wanted else avoided(rule.condition))
        found = nearest(asked, case.values, plan.catalog.features, self._now.request.now)
        if found is None or not found.tests:
            return False
        self._now = self._now.being(case, found.values)
        return self._tell(f"values {self._round}", f"if {words(AllOf(found.tests))}")

    # --- Waiting

    def _waited(self) -> str | None:
        """Waits until every rule that passes by itself has, all at one moment; None where that never comes."""
        now, start = self._now, self._now.request.now
        until, whens = start, dict[str, None]()
        for _ in range(MOST_WAITS):
            ends = list(self._ends(now.at(until)))
            if not ends:
                break
            whens |= dict.fromkeys(f"when {one.when}" for one in ends)
            until = max(nextafter(until, inf), *(one.at for one in ends))
        else:
            return None
        if until == start:
            return ""
        wait = until - start
        while start + wait < until:
            wait = nextafter(wait, inf)
        told, seconds = span_up(wait, lambda seconds: not any(self._ends(now.at(start + seconds))))
        self._wait = until - self._started if self._wait is not None else wait
        self._now = now.at(start + seconds)
        return f"again in {told}, {' and '.join(whens)}"

    def _ends(self, now: Supposed) -> Iterator[End]:
        """When each rule that keeps the offer away now passes by itself, of those that do."""
        case = now.case
        if now.kept_until > now.request.now:
            yield End(now.kept_until, "a new answer is drawn")
        for stage, position in self._against(now, case):
            found = end(case.plan, stage, position, self._offer, now.request, now.facts, case.values)
            if found is not None:
                yield found

    # --- Into the slate

    def _into_slate(self, case: Case) -> bool:
        name, surface = self._offer.name, case.plan.surface
        ranking = self._now.ranking(case)
        if name in ranking.below:
            return self._in_full(case) or self._past_threshold(case, ranking)
        if name not in ranking.left.names:  # a fallback
            return self._stop("only where nothing else is left") if ranking.left.names else False
        own = ranking.scores[ranking.left.names.index(name)]
        if own <= 0 and surface.allow_nothing:
            return self._in_full(case) or self._stop(_worthless(own))
        company = company_of(case, ranking)
        slate = company.slate(choice(ranking, surface, self._now.request.user, self._now.release.id))
        found = None if name in slate else company.rival(name, slate)
        if found is None:
            return False
        return self._in_full(case) or self._above(case, ranking, found[0], "wins" if company.slots == 1 else "shown")

    def _in_full(self, case: Case) -> bool:
        """No longer by the simple policy, in which no lever counts."""
        if case.holdout is None:
            return False
        self._now = replace(self._now, held_out=False)
        return self._tell("holdout", "if the user were not held out")

    def _past_threshold(self, case: Case, ranking: Ranking) -> bool:
        p_convert, own = ranking.below[self._offer.name]
        least_p, wanted = case.plan.surface.min_p_convert, ranking.factors.min_score or 0.0
        if least_p is not None and p_convert < least_p:
            return self._stop("only if it were likelier to convert: no lever lifts it past this threshold")
        free = self._now.ranking(case, thresholds=False)
        why = f"its score {own:.4g} needs at least {wanted:g}: " if self._told else ""
        return self._pull(case, free, why + "past the threshold", lambda score: score >= wanted, wanted)

    def _above(self, case: Case, ranking: Ranking, rival: str, what: str) -> bool:
        """Ranks the offer above another one."""
        classes, names = ranking.factors.priority, ranking.left.names
        own, best = (ranking.scores[names.index(name)] for name in (self._offer.name, rival))
        mine, theirs = (classes[case.plan.position(name)] for name in (self._offer.name, rival))
        if theirs > mine:
            priority = theirs if own > best else theirs + 1
            self._now = replace(self._now, priority=priority)
            return self._tell("priority", f"{what} if its priority class is {priority} or more")
        why = f"its score {own:.4g} is up against {best:.4g} of {rival}: " if self._told else ""
        return self._pull(case, ranking, why + what, lambda score: score > best, best)

    def _pull(self, case: Case, ranking: Ranking, what: str, enough: Callable[[float], bool], wanted: float) -> bool:
        """Supposes the least lever that gives the offer a score that is enough, rounded up as it is told."""
        factors, at = ranking.factors, case.plan.position(self._offer.name)
        effect = ranking.effect[ranking.left.names.index(self._offer.name)]

        def scored(lever: float) -> float:
            return score(effect, prod((factors.net[at], factors.context[at], lever)))

        own = scored(factors.lever[at])
        guess = wanted / (own / factors.lever[at]) if own > 0 else inf
        if ablated(case.arms) is Factor.LEVERS:
            return self._stop("not by a lever: the user's arm leaves them out")
        if not isfinite(guess):
            return self._stop(_worthless(own))
        self._lever, bound = least(lambda lever: enough(scored(lever)), guess), self._now.release.catalog.lever_max
        told = next(text for text in rounded_up(self._lever) if self._lever > bound or float(text) <= bound)
        self._now = replace(self._now, lever=float(told))
        if float(told) > bound:
            return self._tell("lever", f"{what} if its lever were {told}, more than the bound of {bound:g}")
        return self._tell("lever", f"{what} if its lever is at least {told}")


def _worthless(own: float) -> str:
    return f"only if it were worth more: no lever turns a score of {own:.4g}"
