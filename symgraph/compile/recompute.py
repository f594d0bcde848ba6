"""What is cheaper to compute again than to store: short formulas of what is at hand in a second loop anyway.

A step that is copied for a later user stands just before it, in whichever loops that one runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from symgraph.compile.lanes import is_row_product
from symgraph.compile.nest import Schedule
from symgraph.compile.steps import Read, Step, is_cheap, result_axes
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
        # A product of a block's rows with a vector takes the vector as it is stored.
        self.products = {
            step.reads[0].step
            for step in schedule.steps
            if schedule.paths[step][0].rows and is_row_product(step, schedule.lanes.get(step), schedule.arrays)
        }
        self.touched: set[Step] = set()
        self.readers: dict[Step, list[Step]] = {}
        for step in schedule.steps:
            for operand in step.reads:
                if operand.step is not None:
                    self.readers.setdefault(operand.step, []).append(step)

    def copy(self, step: Step) -> None:
        """Copy a step for the users that are farthest, if that is possible for each of them."""
        depth = known_after(self.schedule, step)
        users = {user: self._shared(step, user, depth) for user in self.readers.get(step, ())}
        nearest = min(users.values(), default=depth)
        far = [user for user, shared in users.items() if shared == nearest]
        if nearest == depth or step in self.touched or not self.touched.isdisjoint(far):
            return
        wanted = [(user, axes) for user in far for axes in self._axes_of_reads(user, step)]
        chains = [self._chain(step, user, axes, nearest) for user, axes in wanted]
        if any(axes is None for _, axes in wanted) or any(chain is None for chain in chains):
            return
        made: dict[object, Step] = {}
        for (user, axes), chain in zip(wanted, chains, strict=True):
            assert chain is not None
            assert axes is not None
            # What follows its user into every loop has that one user; repetitions in one loop are merged later.
            key = (user if step.counts else self.schedule.paths[user][nearest], axes)
            if key not in made:
                made[key] = self._insert(chain, user)
            user.reads = [
                replace(r, step=made[key]) if r.step is step and _read_axes(r, user.axes) == axes else r
                for r in user.reads
            ]
            self.touched.update([user, *chain, *(r.step for one in chain for r in one.reads if r.step is not None)])

    def _axes_of_reads(self, user: Step, source: Step) -> list[tuple[int, ...] | None]:
        """Return along which axes a user reads elements; None where it reads anything else, or only sometimes."""
        reads = [r for r in user.reads if r.step is source]
        if user.opaque or user.rows or user in self.products or any(r.whole or r.guards for r in reads):
            return [None]
        return list(dict.fromkeys(_read_axes(r, user.axes) for r in reads))

    def _insert(self, chain: dict[Step, tuple[int, ...]], user: Step) -> Step:
        """Put copies of steps before a user, and return the copy of the last."""
        host = self.hosts.get(user, user)
        copies: dict[Step, Step] = {}
        for step, axes in chain.items():
            reads = [replace(r, step=copies.get(r.step, r.step)) if r.step is not None else r for r in step.reads]
            copies[step] = Step(step.node, step.sizes, step.places, reads, axes=list(axes), counts=step.counts)
            self.hosts[copies[step]] = host
        at = host.before.index(user) if user in host.before else len(host.before)
        host.before[at:at] = copies.values()
        return copies[step]

    def _chain(
        self, step: Step, user: Step, axes: tuple[int, ...] | None, shared: int
    ) -> dict[Step, tuple[int, ...]] | None:
        """Return what has to be computed again for a user, and along which axes, operands first.

        Returns:
            None where that is too much, or where it would not be computed in the user's loop.
        """
        loops = self.schedule.loops_of(user)
        if axes is None or len(loops) <= shared:
            return None
        chain = {step: axes}
        pending = [step]
        while pending:
            one = pending.pop()
            for operand in one.reads:
                source = operand.step
                if source is None or self._is_available(source, operand, user, chain[one]):
                    continue
                there = _read_axes(operand, chain[one])
                if len(chain) == LIMIT or there is None or not _is_short(source) or chain.get(source, there) != there:
                    return None
                if source not in chain:
                    chain[source] = there
                    pending.append(source)
        if any(loops[shared].axis not in there and not one.counts for one, there in chain.items()):
            return None
        return {one: chain[one] for one in self.schedule.steps if one in chain}

    def _shared(self, source: Step, user: Step, depth: int) -> int:
        return 0 if user.opaque else shared_loops(self.schedule.paths[source], self.schedule.paths[user], depth)

    def _is_available(self, source: Step, operand: Read, user: Step, axes: tuple[int, ...]) -> bool:
        """Whether a user can read a value where it lives already, when it is read along these axes."""
        if source in self.schedule.arrays:
            return True
        place = self.places[source]
        depth = known_after(self.schedule, source)
        for k, (index, axis) in enumerate(zip(operand.indices, result_axes(source), strict=True)):
            is_bound = axis is not None and k not in (place.places or ())
            if is_bound and (index.axis is None or not index.is_aligned or axes[index.axis] != axis):
                return False
        return self._shared(source, user, depth) >= (depth if place.places is None else place.scope)


def _read_axes(operand: Read, axes: Sequence[int]) -> tuple[int, ...] | None:
    """Return along which axes each iteration axis of an elementwise step is read; None for anything else."""
    source = operand.step
    assert source is not None
    found: dict[int, int] = {}
    for index, place in zip(operand.indices, source.places, strict=True):
        if place is None and index.axis is None:
            continue
        if place is None or index.axis is None or not index.is_aligned:
            return None
        found[place] = axes[index.axis]
    if len(set(found.values())) != len(source.axes):
        return None
    return tuple(found[k] for k in range(len(source.axes)))


def _alive(steps: list[Step], copies: Iterable[Step], results: set[Step]) -> list[Step]:
    """Return the steps that results need, with copies before their users.

    A copy stands before the first of its users, in the order in which they run by now: so what stands together
    never waits for itself.
    """
    users: dict[Step, list[Step]] = {}
    alive: set[Step] = set()
    pending = list(results)
    while pending:
        step = pending.pop()
        if step not in alive:
            alive.add(step)
            for operand in step.reads:
                if operand.step is not None:
                    users.setdefault(operand.step, []).append(step)
                    pending.append(operand.step)
    number = {step: k for k, step in enumerate(steps)}
    again = {step: None for step in copies if step in alive}
    first: dict[Step, Step] = {}
    ordered = _operands_first(again, users)
    for step in reversed(ordered):
        first[step] = min((first.get(user, user) for user in users[step]), key=number.__getitem__)
    for step in steps:
        step.before = []
    for step in ordered:
        step.before = []
        first[step].before.append(step)
    return [one for step in steps if step in alive and step not in again for one in (*step.before, step)]


def _operands_first(steps: Mapping[Step, None], users: Mapping[Step, Sequence[Step]]) -> list[Step]:
    """Return copies in an order in which each comes after those that it reads."""
    waits = {step: sum(r.step in steps for r in step.reads) for step in steps}
    ready = [step for step, count in waits.items() if not count]
    for step in ready:
        for user in users[step]:
            if user in waits:
                waits[user] -= 1
                if not waits[user]:
                    ready.append(user)
    return ready
