"""Policies by name: the strategies, and modes that set several things at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from engine.placement.model import Node, Policy, Weights
from engine.policies import STRATEGIES
from store.records import evolve

MODES: Final[Mapping[str, Policy]] = {
    "unified": Policy(strategy="portfolio"),
    "thermal": Policy(strategy="portfolio", heat=2.0),
    "cache-first": Policy(
        strategy="smart", weights=Weights(speed=0.15, locality=0.65, load=0.15, price=0.05)
    ),
    "target-isolated": Policy(strategy="portfolio"),
}
"""One queue for all; cool nodes before fast ones; nodes that have the inputs before fast ones; the
nodes divided among the targets."""

POLICIES: Final = (*MODES, *STRATEGIES)


def policy_of(name: str, max_wait: float = float("inf")) -> Policy:
    """Return the policy of a mode or strategy. Raises KeyError for any other name."""
    policy = MODES[name] if name in MODES else Policy(strategy={n: n for n in STRATEGIES}[name])
    return evolve(policy, max_wait=max_wait)


def isolated(nodes: Sequence[Node], targets: Mapping[str, float]) -> list[Node]:
    """Return the nodes divided among targets, each by its share of the work (seconds at speed 1).

    Nodes that are for certain targets already stay so. Where there are fewer nodes than targets,
    nothing is divided: some target would have none.
    """
    free = [node for node in nodes if not node.only]
    taken = {name for node in nodes for name in node.only}
    open_targets = {name: work for name, work in targets.items() if name not in taken}
    if len(free) < len(open_targets) or not open_targets:
        return list(nodes)
    given = dict.fromkeys(open_targets, 0.0)
    chosen: dict[str, str] = {}
    for node in sorted(free, key=lambda one: (-(one.speed or 1.0) * one.cpus, one.name)):
        left = len(free) - len(chosen)
        without = [name for name, speed in given.items() if not speed]
        names = without if len(without) >= left else list(given)
        first = min(
            names, key=lambda name: ((given[name] + 1e-9) / (open_targets[name] or 1), name)
        )
        given[first] += (node.speed or 1.0) * node.cpus
        chosen[node.name] = first
    return [evolve(one, only=(chosen[one.name],)) if one.name in chosen else one for one in nodes]
