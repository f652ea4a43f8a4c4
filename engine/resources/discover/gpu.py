"""Graphics processors: NVIDIA's by its library (the extra `gpu`), others as the kernel tells."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from engine.resources.discover.files import number, numbered, text
from engine.resources.machine import Absent, Gpu

VENDORS: Final = {
    "0x10de": "NVIDIA",
    "0x1002": "AMD",
    "0x8086": "Intel",
    "0x1a03": "ASPEED",
    "0x1234": "QEMU",
    "0x1af4": "virtio",
    "0x15ad": "VMware",
}
NVIDIA: Final = "NVIDIA"


def read(root: Path = Path("/"), library: Any = None) -> tuple[tuple[Gpu, ...], Absent]:
    """Return the graphics processors. `library` stands for NVIDIA's (`pynvml`)."""
    found = list(_cards(root / "sys/class/drm"))
    absent: Absent = {}
    if library is not None or root == Path("/"):
        told, why = _of_library(library)
        if told:
            found = [*told, *(gpu for gpu in found if gpu.vendor != NVIDIA)]
        elif any(gpu.vendor == NVIDIA for gpu in found):
            absent["gpus.nvidia"] = why
    if not found:
        absent["gpus"] = "no card in /sys/class/drm, and no NVIDIA driver"
    return tuple(found), absent


def _of_library(library: Any) -> tuple[list[Gpu], str]:
    """Return what NVIDIA's library tells, or why it tells nothing."""
    try:
        nvml = library or importlib.import_module("pynvml")
    except ImportError:
        return [], "install the extra `gpu` for memory and temperature"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return [], f"the driver does not answer: {error}"
    try:
        return [_nvidia(nvml, at) for at in range(nvml.nvmlDeviceGetCount())], ""
    except nvml.NVMLError as error:
        return [], f"the driver does not tell: {error}"
    finally:
        nvml.nvmlShutdown()


def _nvidia(nvml: Any, at: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(at)
    name = nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        celsius = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    except nvml.NVMLError:
        celsius = None
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else name,
        vendor=NVIDIA,
        driver="nvidia",
        memory=int(memory.total),
        memory_used=int(memory.used),
        celsius=celsius,
        told_by="nvml",
    )


def _cards(directory: Path) -> Iterator[Gpu]:
    for _, card in numbered(directory, "card"):
        device = card / "device"
        number_ = text(device / "vendor")
        event = fields_of(device / "uevent")
        driver = event.get("DRIVER") or _driver(device)
        if number_ is None and driver is None:
            continue
        vendor = VENDORS.get(number_ or "", number_ or "unknown")
        code = text(device / "device")
        yield Gpu(
            name=text(device / "product_name") or " ".join(filter(None, (driver, code))),
            vendor=vendor,
            driver=driver,
            memory=number(device / "mem_info_vram_total"),
            memory_used=number(device / "mem_info_vram_used"),
            celsius=_celsius(device),
            told_by="drm",
        )


def fields_of(path: Path) -> dict[str, str]:
    """Return the lines `NAME=value` of a file."""
    lines = (line.partition("=") for line in (text(path) or "").splitlines())
    return {name: value for name, equals, value in lines if equals}


def _driver(device: Path) -> str | None:
    try:
        return os.path.basename(os.readlink(device / "driver"))
    except OSError:
        return None


def _celsius(device: Path) -> float | None:
    for _, path in numbered(device / "hwmon", "hwmon"):
        told = number(path / "temp1_input")
        if told is not None:
            return told / 1000
    return None
