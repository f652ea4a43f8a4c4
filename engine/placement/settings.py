"""`[placement]` in the configuration: its form, and the policy that it comes to.

::

    [placement]
    mode = "thermal"             # unified, thermal, cache-first or target-isolated
    strategy = "smart"           # instead of the mode's: round_robin, least_loaded, fastest, …
    max_wait = 30                # seconds after which an action takes any node that has room
    limit = 85                   # °C that no node is to reach
    sample_seconds = 2           # between two looks at the sensors; 0: nobody looks

    [placement.weights]          # of the strategy "smart"
    speed = 0.45
    locality = 0.25
    load = 0.2
    cost = 0.1
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from engine.placement.model import LIMIT, Policy
from engine.policies import MODES, STRATEGIES
from engine.spec.faults import Fault, nearest
from engine.spec.model import documented
from store.records import evolve
from store.records import frozen as record

COLDEST_LIMIT: Final = 20.0
HOTTEST_LIMIT: Final = 120.0
"""°C between which a limit can be meant."""

SAMPLE_SECONDS: Final = 2.0
LEAST_SECONDS: Final = 0.5
"""Seconds between two looks at the sensors, and the least that may be asked for."""


@frozen(kw_only=True)
class WeightsTable:
    """`[placement.weights]`: how much each factor of the strategy smart counts."""

    speed: float | None = documented("how fast the node is (0.45)", default=None)
    locality: float | None = documented("how much of the inputs it has (0.25)", default=None)
    load: float | None = documented("how much of it is free (0.2)", default=None)
    cost: float | None = documented("how cheap it is (0.1)", default=None)


@frozen(kw_only=True)
class PlacementTable:
    """`[placement]`: how nodes are chosen for actions."""

    mode: str | None = documented(
        "unified, thermal, cache-first or target-isolated (unified)", default=None
    )
    strategy: str | None = documented(
        "smart, round_robin, least_loaded, fastest, locality or portfolio, instead of the mode's",
        default=None,
    )
    max_wait: float | None = documented(
        "seconds after which an action takes any node that has room (no limit)", default=None
    )
    limit: float | None = documented("degrees Celsius that no node is to reach (85)", default=None)
    sample_seconds: float | None = documented(
        "seconds between two looks at the sensors; 0: nobody looks (2)", default=None
    )
    weights: WeightsTable = documented("of the strategy smart", factory=WeightsTable)


@record(kw_only=True)
class Placing:
    """What is said of placement: the policy, whether anything is said at all (`asked`), whether the
    nodes are divided among the targets, the limit in °C, and seconds between two looks at sensors
    (0: nobody looks)."""

    policy: Policy = Policy(strategy="portfolio")
    asked: bool = False
    isolated: bool = False
    limit: float = LIMIT
    every: float = SAMPLE_SECONDS


def limit_fault(path: Path, at: tuple[str | int, ...], limit: float | None) -> Iterator[Fault]:
    """Yield what is wrong with a limit of temperature."""
    if limit is not None and not COLDEST_LIMIT <= limit <= HOTTEST_LIMIT:
        hint = f"between {COLDEST_LIMIT:g} and {HOTTEST_LIMIT:g} °C"
        yield Fault(path, at, f"{limit:g} °C is no limit for a processor", hint)


def faults(path: Path, table: PlacementTable) -> Iterator[Fault]:
    """Yield what is wrong with the table of the file at `path`."""
    for key, name, known in (("mode", table.mode, MODES), ("strategy", table.strategy, STRATEGIES)):
        if name is not None and name not in known:
            message = f"unknown {key} {name!r}"
            yield Fault(path, ("placement", key), message, nearest(name, known))
    wait = table.max_wait
    if wait is not None and not wait >= 0:
        yield Fault(path, ("placement", "max_wait"), "less than 0 seconds")
    yield from limit_fault(path, ("placement", "limit"), table.limit)
    every = table.sample_seconds
    if every is not None and every != 0 and not LEAST_SECONDS <= every < math.inf:
        hint = f"at least {LEAST_SECONDS:g} seconds, or 0: nobody looks"
        yield Fault(path, ("placement", "sample_seconds"), f"{every:g} is too often", hint)
    given = {name: value for name, value in asdict(table.weights).items() if value is not None}
    for name, value in given.items():
        if not 0 <= value < math.inf:
            yield Fault(path, ("placement", "weights", name), "a weight is 0 or more")
    if len(given) == 4 and not any(given.values()):
        yield Fault(path, ("placement", "weights"), "all weights are 0: nothing would count")


def placing(
    tables: Iterable[PlacementTable], strategy: str | None = None, mode: str | None = None
) -> Placing:
    """Return what tables (those that count more come later) and the command line say."""
    from engine.placement.modes import MODES as POLICIES

    told: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for table in tables:
        given = {key: value for key, value in asdict(table).items() if value is not None}
        weights |= {key: one for key, one in given.pop("weights").items() if one is not None}
        told |= given
    if mode is not None:
        told.pop("strategy", None)
    mode, strategy = mode or told.get("mode"), strategy or told.get("strategy")
    policy = POLICIES[mode or "unified"]
    if strategy is not None:
        policy = evolve(policy, strategy=strategy)
    price = {"price": weights.pop("cost")} if "cost" in weights else {}
    policy = evolve(
        policy,
        weights=evolve(policy.weights, **weights, **price) if weights or price else policy.weights,
        max_wait=float(told.get("max_wait", math.inf)),
    )
    return Placing(
        policy=policy,
        asked=bool(told or weights or price or mode or strategy),
        isolated=mode == "target-isolated",
        limit=float(told.get("limit", LIMIT)),
        every=float(told.get("sample_seconds", SAMPLE_SECONDS)),
    )
