"""Sensors and graphics processors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.resources.discover import gpu, sensors
from engine.resources.machine import processor_celsius
from tests.engine.resources.conftest import Tree

CORE = {
    "sys/class/hwmon/hwmon0/name": "coretemp",
    "sys/class/hwmon/hwmon0/temp1_input": "55000",
    "sys/class/hwmon/hwmon0/temp1_label": "Package id 0",
    "sys/class/hwmon/hwmon0/temp1_max": "84000",
    "sys/class/hwmon/hwmon0/temp1_crit": "100000",
    "sys/class/hwmon/hwmon0/temp2_input": "54000",
    "sys/class/hwmon/hwmon0/temp2_label": "Core 0",
}
DISK = {
    "sys/class/hwmon/hwmon3/name": "nvme",
    "sys/class/hwmon/hwmon3/temp1_input": "43850",
    "sys/class/hwmon/hwmon3/temp1_label": "Composite",
    "sys/class/hwmon/hwmon3/temp1_crit": "94850",
    "sys/class/hwmon/hwmon3/temp2_input": "43850",
    "sys/class/hwmon/hwmon3/temp2_max": "65261850",
}
ZONES = {
    "sys/class/thermal/thermal_zone0/type": "bcm2835_thermal",
    "sys/class/thermal/thermal_zone0/temp": "49925",
    "sys/class/thermal/thermal_zone1/type": "acpitz",
    "sys/class/thermal/thermal_zone1/temp": "-44000",
}


def test_monitors(tree: Tree) -> None:
    found, absent = sensors.read(tree(more=CORE | DISK))
    assert not absent
    assert [one.label for one in found] == ["Package id 0", "Core 0", "Composite", "temp2"]
    assert (found[0].celsius, found[0].high, found[0].critical) == (55.0, 84.0, 100.0)
    assert found[3].high is None, "nobody believes 65,261 degrees"
    assert processor_celsius(found) == 55.0


def test_zones_where_no_monitor_is_on_the_processor(tree: Tree) -> None:
    found, absent = sensors.read(tree(more=ZONES | DISK))
    assert processor_celsius(found) == pytest.approx(49.925)
    assert not absent
    assert not any(one.chip == "acpitz" for one in found), "-44 degrees is a broken sensor"


def test_sensors_that_are_elsewhere_say_so(tree: Tree) -> None:
    found, absent = sensors.read(tree(more=DISK))
    assert processor_celsius(found) is None
    assert set(absent) == {"sensors.cpu"}


CARD = {
    "sys/class/drm/card0/device/vendor": "0x1002",
    "sys/class/drm/card0/device/device": "0x687f",
    "sys/class/drm/card0/device/uevent": "DRIVER=amdgpu\nPCI_CLASS=30000",
    "sys/class/drm/card0/device/mem_info_vram_total": "8573157376",
    "sys/class/drm/card0/device/mem_info_vram_used": "1490378752",
    "sys/class/drm/card0/device/hwmon/hwmon4/temp1_input": "41000",
    "sys/class/drm/card0-DP-1/status": "connected",
}


def test_card_as_the_kernel_tells_of_it(tree: Tree) -> None:
    (found,), absent = gpu.read(tree(more=CARD))
    assert not absent
    assert (found.vendor, found.driver, found.name) == ("AMD", "amdgpu", "amdgpu 0x687f")
    assert (found.memory, found.memory_used) == (8573157376, 1490378752)
    assert found.celsius == 41.0


class FaultError(Exception):
    """What NVIDIA's library raises."""


def library(**more: Any) -> SimpleNamespace:
    """Return a stand-in for NVIDIA's library with one card."""
    return SimpleNamespace(
        **{
            "NVMLError": FaultError,
            "NVML_TEMPERATURE_GPU": 0,
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda at: at,
            "nvmlDeviceGetName": lambda _: "NVIDIA L4",
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=24 * 2**30, used=2**30),
            "nvmlDeviceGetTemperature": lambda *_: 61,
            **more,
        }
    )


def test_library_of_nvidia_tells_more_than_the_kernel(tree: Tree) -> None:
    kernel = {"sys/class/drm/card1/device/vendor": "0x10de"}
    found, absent = gpu.read(tree(more=CARD | kernel), library())
    assert not absent
    assert [(one.name, one.told_by) for one in found] == [
        ("NVIDIA L4", "nvml"),
        ("amdgpu 0x687f", "drm"),
    ]
    assert found[0].celsius == 61.0


def test_driver_that_does_not_answer(tree: Tree) -> None:
    def fail() -> None:
        raise FaultError("driver not loaded")

    kernel = {"sys/class/drm/card1/device/vendor": "0x10de"}
    (found,), absent = gpu.read(tree(more=kernel), library(nvmlInit=fail))
    assert found.told_by == "drm"
    assert "driver not loaded" in absent["gpus.nvidia"]
