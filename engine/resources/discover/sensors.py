"""Temperature sensors: hardware monitors, and thermal zones where these do not tell the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.resources.discover.files import number, numbered, text
from engine.resources.machine import Absent, Sensor, on_processor

COLDEST: Final = -30.0
HOTTEST: Final = 150.0
"""Degrees between which a sensor is believed: broken ones tell -128, -44 or 255."""

_WHY: Final = "neither /sys/class/hwmon nor /sys/class/thermal has a temperature (usual in VMs)"


def read(root: Path = Path("/")) -> tuple[tuple[Sensor, ...], Absent]:
    """Return the temperatures; thermal zones of the processor only where no monitor is on it."""
    sensors = [sensor for sensor, _ in located(root)]
    absent = {}
    if not sensors:
        absent["sensors"] = _WHY
    elif not any(on_processor(one) for one in sensors):
        absent["sensors.cpu"] = "no sensor is known to be on the processor"
    return tuple(sensors), absent


def located(root: Path = Path("/")) -> list[tuple[Sensor, Path]]:
    """Return the temperatures, each with the file that tells it."""
    sensors = list(_monitors(root / "sys/class/hwmon"))
    known = any(on_processor(one) for one, _ in sensors)
    zones = _zones(root / "sys/class/thermal")
    sensors.extend(zone for zone in zones if not (known and on_processor(zone[0])))
    return sensors


def _monitors(directory: Path) -> Iterator[tuple[Sensor, Path]]:
    for _, path in numbered(directory, "hwmon"):
        place = path if (path / "name").exists() else path / "device"  # as old kernels have it
        chip = text(place / "name") or path.name
        names = (re.fullmatch(r"(temp\d+)_input", one.name) for one in place.glob("temp*_input"))
        for name in sorted((one[1] for one in names if one), key=lambda one: int(one[4:])):
            celsius = degrees(place / f"{name}_input")
            if celsius is not None:
                sensor = Sensor(
                    chip=chip,
                    label=text(place / f"{name}_label") or name,
                    celsius=celsius,
                    high=degrees(place / f"{name}_max"),
                    critical=degrees(place / f"{name}_crit"),
                )
                yield sensor, place / f"{name}_input"


def _zones(directory: Path) -> Iterator[tuple[Sensor, Path]]:
    for zone, path in numbered(directory, "thermal_zone"):
        celsius = degrees(path / "temp")
        if celsius is not None:
            trips = {
                text(path / f"trip_point_{at}_type"): degrees(path / f"trip_point_{at}_temp")
                for at in range(4)
            }
            sensor = Sensor(
                chip=text(path / "type") or path.name,
                label=f"zone {zone}",
                celsius=celsius,
                high=trips.get("passive") or trips.get("hot"),
                critical=trips.get("critical"),
                told_by="thermal",
            )
            yield sensor, path / "temp"


def degrees(path: Path) -> float | None:
    """Return a temperature that can be true; the files count thousandths of a degree."""
    told = number(path)
    celsius = None if told is None else told / 1000
    return celsius if celsius is not None and COLDEST < celsius < HOTTEST else None
