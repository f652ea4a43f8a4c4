"""What placement is asked and what it answers: steps, nodes, costs, policies, placements."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from store.records import evolve, field, frozen

if TYPE_CHECKING:
    from engine.placement.plan import Plan

LIMIT: Final = 85.0
"""The temperature in °C that a node is not to reach, where it names none."""


@frozen(kw_only=True)
class Ready:
    """A step that could start.

    `rank` is the length in seconds of the longest chain of steps that begins with it, `seconds`
    what it takes itself at speed 1, `memory` is in bytes, `waited` how long it has been ready.
    `inputs` are the things that it reads, by a name, and their sizes in bytes.
    """

    label: str
    rank: float
    cpus: int = 1
    memory: int = 0
    seconds: float = 1.0
    target: str = ""
    waited: float = 0.0
    inputs: tuple[tuple[str, int], ...] = ()


@frozen(kw_only=True)
class Node:
    """A machine, or a part of one, that runs actions: what it has, and what of it is free.

    Memory in bytes. `speed` is that of one processor, None where it was not measured. `samples` are
    its last temperatures: seconds before now (≤ 0) and °C, the oldest first. `preference` is one of
    "", "preferred", "avoid" and "disabled"; `only` names the targets that it is for. `price` is in
    any unit a second. `failures` counts actions that failed there for no reason of their own, or
    that vanished with the node, less with time. `ends` says of what runs there in how many seconds
    it is expected to end, and how many processors it gives back.
    """

    name: str
    cpus: int
    memory: int
    free_cpus: int
    free_memory: int
    speed: float | None = None
    samples: tuple[tuple[float, float], ...] = ()
    limit: float = LIMIT
    preference: str = ""
    only: tuple[str, ...] = ()
    price: float = 0.0
    failures: float = 0.0
    ends: tuple[tuple[float, int], ...] = ()

    @property
    def idle(self) -> bool:
        """Say whether nothing runs there."""
        return self.free_cpus == self.cpus


@frozen(kw_only=True)
class Costs:
    """What it takes to have a step's inputs on a node, and what is planned.

    `held` says which nodes hold an input; it moves at `bandwidth` bytes a second after `latency`
    seconds. `plan` is what the strategy "portfolio" follows, `elapsed` how many seconds ago it
    began, and `started` are the steps that it need not wait for any more. `turn` is how many
    placements there were before: for "round_robin".
    """

    held: Mapping[str, Collection[str]] = field(factory=dict)
    bandwidth: float = math.inf
    latency: float = 0.0
    plan: Plan | None = None
    elapsed: float = 0.0
    started: Collection[str] = ()
    turn: int = 0


@frozen(kw_only=True)
class Weights:
    """How much each factor of the strategy "smart" counts."""

    speed: float = 0.45
    locality: float = 0.25
    load: float = 0.2
    price: float = 0.1


@frozen(kw_only=True)
class Policy:
    """How to choose.

    After `max_wait` seconds a step takes any node that has room. Of what is ready, `window` steps
    are looked at in one decision. `heat` is the exponent of the thermal multiplier.
    """

    strategy: str = "smart"
    weights: Weights = field(factory=Weights)
    max_wait: float = math.inf
    window: int = 64
    heat: float = 1.0


@frozen(kw_only=True)
class Factor:
    """One thing that counted: its value from 0 to 1, and its weight (0 for a multiplier)."""

    name: str
    value: float
    weight: float = 0.0
    note: str = ""


@frozen(kw_only=True)
class Explanation:
    """Why a step starts on a node: the reason in words, every factor, and the nodes that came next
    with their scores. `waited` says what it waited for, where another node was free meanwhile."""

    reason: str
    strategy: str = ""
    score: float = 0.0
    factors: tuple[Factor, ...] = ()
    runners_up: tuple[tuple[str, float], ...] = ()
    waited: str = ""

    def __str__(self) -> str:
        """Return the explanation as one line."""
        texts = [self.waited, self.reason] if self.waited else [self.reason]
        if self.factors:
            added = [
                f"{one.name} {one.value:.2f}×{one.weight:g}" for one in self.factors if one.weight
            ]
            times = [one for one in self.factors if not one.weight and one.value != 1]
            parts = [
                f"score {self.score:.3f} = {' + '.join(added)}",
                *(f"{one.name} ×{one.value:.2f}" for one in times),
                *(one.note for one in self.factors if one.note),
            ]
            texts.append(", ".join(parts))
        if self.runners_up:
            texts.append("then " + ", ".join(f"{name} {s:.3f}" for name, s in self.runners_up))
        return "; ".join(texts)


@frozen(kw_only=True)
class Placement:
    """A step to be started on a node, the share of the node that it holds, and why; `seconds` is
    how long it is expected to take, 0 where nobody asked."""

    label: str
    node: str
    cpus: int
    memory: int
    explanation: Explanation
    seconds: float = 0.0


def release(node: Node, placement: Placement) -> Node:
    """Return `node` with what `placement` held given back."""
    return evolve(
        node,
        free_cpus=node.free_cpus + placement.cpus,
        free_memory=node.free_memory + placement.memory,
    )


def take(node: Node, placement: Placement) -> Node:
    """Return `node` less what `placement` holds."""
    return evolve(
        node,
        free_cpus=node.free_cpus - placement.cpus,
        free_memory=node.free_memory - placement.memory,
    )
