"""Plans: the best of several schedules of what is left of a build, and when to plan anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from engine.placement.schedule import (
    Lanes,
    Schedule,
    back_and_forth,
    insertion,
    look_ahead,
    never_idle,
    on_the_fastest,
)
from engine.placement.work import Work, order, ranks
from store.records import field, frozen

Candidate: TypeAlias = tuple[str, str, Schedule]
"""A schedule with its name and the rule that makes it."""

GROUPS: Final = 32
"""Different speeds that are told apart; of more, those are taken together that are alike."""

EFFORT: Final = 1_500_000
"""Steps × lanes up to which insertion is tried: a second or two. Beyond, only schedules that are
made in the order of time."""

PACKING: Final = 300_000
"""Steps × lanes up to which schedules are packed to and fro."""

SHARES: Final = (0.75, 0.5)
"""Shares of the speeds, the highest ones, with which insertion is tried, too."""

SMALL: Final = 400
"""Steps up to which two schedules are packed, beyond one."""

WORTH: Final = 0.1
"""The share of its makespan by which a schedule to follow has to be shorter than what a rule gives
that decides as things come, where nodes may change."""

PLAIN: Final = ("first come", "fastest only")
"""Schedules than which a plan is never longer."""

ROUNDS: Final = 3
ALIKE: Final = 1 + 1e-9
"""Makespans that differ by less are equal: then a rule that decides as things come is preferred."""


@frozen(kw_only=True)
class Plan:
    """What the strategy "portfolio" goes by.

    `rule` is "never idle", "look ahead" or "follow"; `priority` is the order (least first) of steps
    by name: for "follow" their starts in seconds from now. Then `sequences` are the steps of each
    group of nodes, by start. `considered` are the makespans of all schedules that were compared.
    """

    name: str
    rule: str
    makespan: float
    priority: Mapping[str, float]
    group_of: Mapping[str, int] = field(factory=dict)
    groups: Mapping[str, int] = field(factory=dict)
    sequences: tuple[tuple[str, ...], ...] = ()
    considered: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    """The plan in words."""


def group_speeds(speeds: Sequence[float]) -> dict[float, int]:
    """Return the group of each speed, the fastest is group 0; alike ones share a group where there
    are too many."""
    different = sorted(set(speeds), reverse=True)
    if len(different) <= GROUPS:
        return {speed: number for number, speed in enumerate(different)}
    ratio = (different[0] / different[-1]) ** (1 / GROUPS)
    found: dict[float, int] = {}
    top, group = different[0], 0
    for speed in different:
        if speed * ratio < top and group < GROUPS - 1:
            top, group = speed, group + 1
        found[speed] = group
    return found


def make_plan(
    work: Work,
    lanes: Lanes,
    nodes: Mapping[str, int],
    earliest: Sequence[float] = (),
    light: bool = False,
    steady: bool = True,
) -> Plan:
    """Return the best plan for `work` on lanes; `nodes` gives the group of lanes of each node, and
    `steady` says that nothing is known by which they may become slower or drop out.

    `earliest` is when each step may start besides its needs. A light plan, for one that is made
    anew as durations differ, compares fewer schedules.
    """
    names, rank = work.labels, ranks(work)
    places = [0] * len(work)
    for place, step in enumerate(order(work)):
        places[step] = place
    priority = [-one for one in rank]
    steps = sorted(range(len(work)), key=lambda one: (priority[one], places[one]))
    rate = sum(speed * len(times) for speed, times in zip(lanes.speeds, lanes.free, strict=True))
    enough = max(max(rank, default=0.0) / lanes.speeds[0], sum(work.seconds) / rate) * ALIKE
    found: list[Candidate] = []
    for one in _candidates(work, lanes, priority, steps, earliest, light):
        found.append(one)
        if one[2].makespan <= enough:
            break  # no other one can be shorter
    else:
        if _may_be_packed(work, lanes, earliest):
            best_first = sorted(found, key=lambda one: one[2].makespan)
            for name, _, schedule in best_first[: 2 if len(work) <= SMALL else 1]:
                packed = back_and_forth(work, lanes, schedule, ROUNDS)
                found.append((f"{name}, packed", "follow", packed))
    name, rule, best = _best(found, 0.0 if steady else WORTH)
    if rule == "follow":
        priority = list(best.starts)
    else:  # steps of equal rank in the order of the schedule, too
        for place, step in enumerate(sorted(range(len(work)), key=lambda one: (-rank[one], one))):
            priority[step] = float(place)
    others = sorted((one.makespan, name) for name, _, one in found)[:3]
    compared = ", ".join(f"{name} {seconds:.1f} s" for seconds, name in others)
    sequences: list[list[str]] = [[] for _ in lanes.speeds]
    if rule == "follow":
        for step in sorted(range(len(work)), key=lambda one: (best.starts[one], places[one])):
            sequences[best.groups[step]].append(names[step])
    return Plan(
        name=name,
        rule=rule,
        makespan=best.makespan,
        priority=dict(zip(names, priority, strict=True)),
        group_of=dict(zip(names, best.groups, strict=True)),
        groups=nodes,
        sequences=tuple(map(tuple, sequences)),
        considered=tuple((name, one.makespan) for name, _, one in found),
        reason=f"plan {name} ({compared})",
    )


def _candidates(
    work: Work,
    lanes: Lanes,
    priority: Sequence[float],
    steps: Sequence[int],
    earliest: Sequence[float],
    light: bool,
) -> Iterator[Candidate]:
    """Yield schedules, the likely ones first."""
    speeds, free = lanes.speeds, lanes.free
    if len(speeds) == 1 or not light:
        yield "longest chain first", "never idle", never_idle(work, lanes, priority, earliest)
    if len(speeds) > 1:
        yield "look ahead", "look ahead", look_ahead(work, lanes, priority, earliest)
    if any(count > 1 for count in work.cpus):
        return
    if len(work) * lanes.count <= EFFORT:
        yield "insertion", "follow", insertion(work, lanes, steps, earliest)
        for share in () if light else SHARES:  # the slowest lanes may do more harm than good
            few = round(len(speeds) * share)
            if 0 < few < len(speeds) and any(free[:few]):
                fewer = insertion(work, Lanes(speeds[:few], free[:few]), steps, earliest)
                yield f"insertion, {few} of {len(speeds)} speeds", "follow", fewer
    if not light:
        yield "first come", "follow", never_idle(work, lanes, None, earliest)
        yield "fastest only", "follow", on_the_fastest(work, lanes)


def _may_be_packed(work: Work, lanes: Lanes, earliest: Sequence[float]) -> bool:
    return (
        not any(earliest)
        and not any(map(any, lanes.free))
        and all(count == 1 for count in work.cpus)
        and len(work) * lanes.count <= PACKING
    )


def _best(found: Sequence[Candidate], worth: float) -> Candidate:
    least = min(one.makespan for _, _, one in found)
    plain = [one.makespan for name, _, one in found if name in PLAIN]
    most = min([least * (1 + worth), *plain]) * ALIKE
    for name, rule, one in found:
        if rule != "follow" and one.makespan <= most:
            return name, rule, one
    return next(one for one in found if one[2].makespan <= least)
