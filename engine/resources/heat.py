"""The temperatures of nodes while a build runs: which sensors tell them, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.resources.discover.sensors import degrees, located
from engine.resources.machine import Sensor, on_processor


class Thermometer:
    """The sensors of some nodes. What is read are a few files of /sys, found once.

    `sensors` are the files of each node, `every` the seconds between two looks at them.
    """

    def __init__(self, sensors: Mapping[str, tuple[Path, ...]], every: float) -> None:
        self.every = every
        self._sensors = sensors

    def read(self) -> dict[str, float | None]:
        """Return the highest temperature in °C that sensors of each node tell now; None where none
        of them tells any. This may take milliseconds, and where a chip hangs, longer."""
        told: dict[Path, float | None] = {}
        found: dict[str, float | None] = {}
        for node, paths in self._sensors.items():
            for path in paths:
                if path not in told:
                    told[path] = degrees(path)
            known = [one for one in (told[path] for path in paths) if one is not None]
            found[node] = max(known, default=None)
        return found

    async def look(self) -> dict[str, float | None]:
        """Do as `read` does, in a thread, so that nothing waits for a slow sensor."""
        import trio

        return await trio.to_thread.run_sync(self.read, abandon_on_cancel=True)


def thermometer(
    wanted: Mapping[str, str], every: float, root: Path = Path("/")
) -> Thermometer | None:
    """Return the thermometer of nodes, None where no node has a sensor.

    `wanted` names the sensor of each node, as chip or chip/label; empty is all that are on the
    processor. A node without any counts as neutral.
    """
    sensors = located(root)
    found = {node: tuple(_paths(sensors, name)) for node, name in wanted.items()}
    return Thermometer(found, every) if any(found.values()) else None


def _paths(sensors: Iterable[tuple[Sensor, Path]], name: str) -> Iterable[Path]:
    chip, slash, label = name.partition("/")
    for sensor, path in sensors:
        if not name:
            if on_processor(sensor):
                yield path
        elif sensor.chip == chip and (not slash or sensor.label == label):
            yield path
