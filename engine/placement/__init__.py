"""Placement: which ready steps start now, and where. Pure functions; every decision carries its
reason. README.md beside this file is the chapter on it."""

from engine.placement.decide import place
from engine.placement.model import (
    Costs,
    Explanation,
    Node,
    Placement,
    Policy,
    Ready,
    release,
    take,
)

__all__ = [
    "Costs",
    "Explanation",
    "Node",
    "Placement",
    "Policy",
    "Ready",
    "place",
    "release",
    "take",
]
