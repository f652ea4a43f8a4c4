"""What a simulated node is to placement: its body, and its failures as they are forgotten."""

from __future__ import annotations

import math
from typing import Final

from engine.placement.model import Node
from engine.simulation.hardware import Machine
from executors.physics import Body
from store.records import evolve

HALF_LIFE: Final = 600.0
"""Seconds in which half of a node's failures are forgotten."""


class Simulated(Body):
    """One node while a build is simulated."""

    def __init__(self, node: Node, machine: Machine, seed: int = 0) -> None:
        super().__init__(node.name, machine.nature, seed)
        self.node = node
        self.failures = 0.0
        self.failed_at = 0.0

    def fault(self, now: float) -> None:
        """Count a failure that is the node's."""
        self.failures = self.instability(now) + 1
        self.failed_at = now

    def instability(self, now: float) -> float:
        """Return the failures that are not forgotten yet."""
        kept = self.failures * math.exp2((self.failed_at - now) / HALF_LIFE)
        return round(kept * 2) / 2

    def seen(self, now: float) -> Node:
        """Return the node as placement sees it now."""
        return evolve(
            self.node,
            samples=tuple((time - now, celsius) for time, celsius in self.samples),
            failures=self.instability(now),
            preference=self.node.preference if self.up else "disabled",
        )
