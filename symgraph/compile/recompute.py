"""What is cheaper to compute again than to store: short formulas of what is at hand in a second loop anyway.

A step that is copied for a later user stands just before it, in whichever loops that one runs.
"""

from __future__ import annotations

from dataclasses import replace

from symgraph.compile.lanes import is_cheap
from symgraph.compile.nest import Schedule
from symgraph.compile.steps import Index, Step
from symgraph.compile.storage import Place, known_after, plan, shared_loops
from symgraph.op import Kind

LIMIT = 4
"""How many cheap operations are computed again at most."""


def compute_again(schedule: Schedule, results: set[Step]) -> list[Step] | None:
    """Return the steps with copies of some before their users; None where everything had better be stored."""
    if all(group.axis is None for group in schedule.groups):
        return None
    places = plan(schedule, results)
    stored = [s for s in schedule.steps if places[s].places is not None and s not in schedule.arrays and _is_short(s)]
    if not stored:
        return None
    copier = _Copier(schedule, places)
    for step in reversed(stored):
        copier.copy(step)
    return _alive(schedule.steps, copier.hosts, results) if copier.touched else None


def _is_short(step: Step) -> bool:
    return step.node.op.kind is Kind.ELEMENTWISE and is_cheap(step) and not step.before


class _Copier:
    def __init__(self, schedule: Schedule, places: dict[Step, Place]) -> None:
        self.schedule = schedule
        self.places = places
        self.hosts = {step: host for host in schedule.steps for step in host.before}
        self.touched: set[Step] = set()
        self.readers: dict[Step, list[Step]] = {}
        for step in schedule.steps:
            for operand in step.reads:
                if operand.step is not None:
                    self.readers.setdefault(operand.step, []).append(step)

    def copy(self, step: Step) -> None:
        """Copy a step for all users in other loops, if that is possible for each of them."""
        far = [user for user in dict.fromkeys(self.readers.get(step, ())) if not self._sees(step, user)]
        if not far or step in self.touched or not self.touched.isdisjoint(far):
            return
        chains = [self._chain(step, user) for user in far]
        if any(chain is None for chain in chains):
            return
        made: dict[object, Step] = {}
        for user, chain in zip(far, chains, strict=True):
            assert chain is not None
            loops = self.schedule.paths[user]
            if loops not in made:
                made[loops] = self._insert(chain, user)
            user.reads = [replace(r, step=made[loops]) if r.step is step else r for r in user.reads]
            self.touched.update([user, *chain, *(r.step for one in chain for r in one.reads if r.step is not None)])

    def _insert(self, chain: list[Step], user: Step) -> Step:
        """Put copies of steps before a user, and return the copy of the last."""
        host = self.hosts.get(user, user)
        copies: dict[Step, Step] = {}
        for step in chain:
            reads = [replace(r, step=copies.get(r.step, r.step)) if r.step is not None else r for r in step.reads]
            copies[step] = Step(step.node, step.sizes, step.places, reads, axes=step.axes)
            self.hosts[copies[step]] = host
        at = host.before.index(user) if user in host.before else len(host.before)
        host.before[at:at] = copies.values()
        return copies[chain[-1]]

    def _chain(self, step: Step, user: Step) -> list[Step] | None:
        """Return what has to be computed again for a user, operands first; None where that is too much."""
        if not _reads_element(user, step):
            return None
        chain = [step]
        for one in chain:
            for operand in one.reads:
                source = operand.step
                if source is None or source in chain or self._is_available(source, user):
                    continue
                if len(chain) == LIMIT or not _is_short(source) or not _reads_element(one, source):
                    return None
                chain.append(source)
        chosen = set(chain)
        return [s for s in self.schedule.steps if s in chosen]

    def _sees(self, source: Step, user: Step) -> bool:
        depth = known_after(self.schedule, source)
        return not user.opaque and shared_loops(self.schedule.paths[source], self.schedule.paths[user], depth) == depth

    def _is_available(self, source: Step, user: Step) -> bool:
        """Whether a user can read a value where it lives already."""
        if source in self.schedule.arrays:
            return True
        place = self.places[source]
        depth = known_after(self.schedule, source)
        shared = shared_loops(self.schedule.paths[source], self.schedule.paths[user], depth)
        return shared >= (depth if place.places is None else place.scope)


def _reads_element(user: Step, source: Step) -> bool:
    """Tell whether a step reads another only at the element of its own iteration."""
    return not (user.opaque or user.rows) and all(
        not r.whole and all(_is_same(user, source, i, p) for i, p in zip(r.indices, source.places, strict=True))
        for r in user.reads
        if r.step is source
    )


def _is_same(user: Step, source: Step, index: Index, place: int | None) -> bool:
    if place is None:
        return index.axis is None
    return index.axis is not None and index.is_aligned and user.axes[index.axis] == source.axes[place]


def _alive(steps: list[Step], hosts: dict[Step, Step], results: set[Step]) -> list[Step]:
    """Return the steps that results need, with copies before their users."""
    alive: set[Step] = set()
    pending = list(results)
    while pending:
        step = pending.pop()
        if step not in alive:
            alive.add(step)
            pending += [r.step for r in step.reads if r.step is not None]
    found: list[Step] = []
    for step in steps:
        step.before = [one for one in step.before if one in alive]
        if step in alive and step not in hosts:
            found += [*step.before, step]
    return found
