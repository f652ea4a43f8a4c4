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
    now, last = samples[-1]
    count, times, degrees, squares, products = 0, 0.0, 0.0, 0.0, 0.0
    for time, celsius in samples:
        before = time - now
        if before >= -RECENT:
            rise = celsius - last
            count += 1
            times += before
            degrees += rise
            squares += before * before
            products += before * rise
    spread = count * squares - times * times
    if spread <= 0:
        return last
    slope = (count * products - times * degrees) / spread
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
