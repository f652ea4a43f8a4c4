"""Heat: where a node's temperature is going, and what is left until its limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

HORIZON: Final = 15.0
"""Seconds for which the temperature is foretold."""

RECENT: Final = 60.0
"""Seconds of samples that a forecast looks at."""

MARGIN: Final = 12.0
"""°C below its limit from which on a node is given less, down to nothing at the limit."""

STEPS: Final = 8
"""Headroom is told in so many steps: nodes that are nearly alike count as alike."""


def forecast(samples: Sequence[tuple[float, float]], horizon: float = HORIZON) -> float | None:
    """Return the temperature in °C expected in `horizon` seconds, None without samples.

    The slope is that of the line with the least squares through the recent samples (seconds before
    now, ≤ 0, and °C). Cooling is believed by half: what cools a node is that it has nothing to do.
    """
    if not samples:
        return None
    last = samples[-1][1]
    recent = [one for one in samples if one[0] >= samples[-1][0] - RECENT]
    mean_time = sum(time for time, _ in recent) / len(recent)
    mean = sum(celsius for _, celsius in recent) / len(recent)
    spread = sum((time - mean_time) ** 2 for time, _ in recent)
    if not spread:
        return last
    slope = sum((time - mean_time) * (celsius - mean) for time, celsius in recent) / spread
    return last + (slope if slope > 0 else slope / 2) * horizon


def headroom(samples: Sequence[tuple[float, float]], limit: float) -> float:
    """Return what of a node's speed may be used: 1 where it is cool or has no sensor, 0 where it
    is, or soon will be, at its limit."""
    expected = forecast(samples)
    if expected is None:
        return 1.0
    left = (limit - max(expected, samples[-1][1])) / MARGIN
    return max(0.0, min(1.0, round(left * STEPS) / STEPS))


def told(samples: Sequence[tuple[float, float]], limit: float) -> str:
    """Return the temperature in words."""
    expected = forecast(samples)
    if expected is None:
        return "no sensor: heat counts as neutral"
    return f"{samples[-1][1]:.0f} °C, soon {expected:.0f} of {limit:.0f}"
