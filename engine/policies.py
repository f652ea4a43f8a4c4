"""Names of what can be chosen for placement: strategies, modes, preferences. They alone, so that
the command line knows them without loading placement."""

from __future__ import annotations

from typing import Final

STRATEGIES: Final = ("smart", "round_robin", "least_loaded", "fastest", "locality", "portfolio")
MODES: Final = ("unified", "thermal", "cache-first", "target-isolated")
PREFERENCES: Final = ("preferred", "avoid", "disabled")
