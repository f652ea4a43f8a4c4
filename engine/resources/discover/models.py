"""What processors are called, of which architecture they are, and whether a hypervisor has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine.resources.discover.files import text

Info = Mapping[int, Mapping[str, str]]
"""/proc/cpuinfo by processor."""

_IMPLEMENTERS: Final = {
    "0x41": "ARM", "0x42": "Broadcom", "0x43": "Cavium", "0x46": "Fujitsu", "0x48": "HiSilicon",
    "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple", "0xc0": "Ampere",
}  # fmt: skip
_PARTS: Final = {
    "ARM": {
        "0xb76": "ARM1176", "0xc07": "Cortex-A7", "0xc08": "Cortex-A8",
        "0xc09": "Cortex-A9", "0xc0e": "Cortex-A17", "0xc0f": "Cortex-A15",
        "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55",
        "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd09": "Cortex-A73",
        "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1",
        "0xd0d": "Cortex-A77", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78",
        "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710",
        "0xd48": "Cortex-X2", "0xd49": "Neoverse-N2", "0xd4d": "Cortex-A715",
        "0xd4e": "Cortex-X3", "0xd4f": "Neoverse-V2", "0xd80": "Cortex-A520",
        "0xd81": "Cortex-A720", "0xd82": "Cortex-X4", "0xd85": "Cortex-X925",
        "0xd87": "Cortex-A725", "0xd8e": "Neoverse-N3",
    },
    "Apple": {
        "0x022": "M1 Icestorm", "0x023": "M1 Firestorm", "0x024": "M1 Pro Icestorm",
        "0x025": "M1 Pro Firestorm", "0x028": "M1 Max Icestorm", "0x029": "M1 Max Firestorm",
        "0x032": "M2 Blizzard", "0x033": "M2 Avalanche",
    },
    "Ampere": {"0xac3": "Ampere-1", "0xac4": "Ampere-1a"},
    "Cavium": {"0x0a1": "ThunderX", "0x0af": "ThunderX2"},
    "Fujitsu": {"0x001": "A64FX"},
    "HiSilicon": {"0xd01": "TaiShan-v110"},
    "NVIDIA": {"0x004": "Carmel"},
    "Qualcomm": {"0x001": "Oryon"},
}  # fmt: skip
"""Parts by implementer, as the kernel's and compilers' tables have them."""

_NAMES: Final = ("model name", "Model Name", "cpu model", "cpu", "uarch")
"""Where /proc/cpuinfo names a processor: x86, LoongArch, MIPS, POWER and SPARC, RISC-V."""

_HOSTS: Final = ("QEMU", "KVM", "VMware", "VirtualBox", "innotek", "Xen", "Amazon EC2", "Parallels")
"""How makers and products of virtual machines are called in the firmware's tables."""


def model(root: Path, info: Info) -> str | None:
    """Return what processors are called: each kind of core, and the board where that is told."""
    chips = list(dict.fromkeys(filter(None, map(_chip, info.values()))))
    first = next(iter(info.values()), {})
    board = None
    if "model name" not in first or first["model name"].startswith(("ARMv", "AArch")):
        told = (first.get(name) for name in ("Model", "Hardware", "machine"))
        board = text(root / "proc/device-tree/model") or next(filter(None, told), None)
    named = " + ".join(chips)
    return " · ".join(dict.fromkeys(filter(None, (named, board)))) or None


def _chip(info: Mapping[str, str]) -> str | None:
    if "CPU implementer" in info:
        maker = _IMPLEMENTERS.get(info["CPU implementer"])
        code = info.get("CPU part", "?")
        part = _PARTS.get(maker or "", {}).get(code)
        if maker is None:
            return f"implementer {info['CPU implementer']}, part {code}"
        return f"{maker} {part or f'part {code}'}"
    told = next((info[name] for name in _NAMES if info.get(name)), None)
    if told is None and info.get("vendor_id") == "IBM/S390":
        return "IBM/S390"
    return " ".join(told.split()) if told else None


def architecture(root: Path, first: Mapping[str, str]) -> str | None:
    """Return the architecture as the kernel calls it: by its own word (since 6.1), or as the form
    of /proc/cpuinfo shows."""
    told = text(root / "proc/sys/kernel/arch")
    if told is None and root == Path("/"):
        told = os.uname().machine
    if told is not None:
        return told
    if "flags" in first:
        return "x86_64" if "lm" in first["flags"].split() else "i686"
    if "CPU architecture" in first:
        wide = first["CPU architecture"] in ("8", "AArch64")
        return "aarch64" if wide and "asimd" in first.get("Features", "") else "arm"
    if first.get("isa", "")[:4] in ("rv32", "rv64"):
        return f"riscv{first['isa'][2:4]}"
    if first.get("cpu", "").startswith(("POWER", "PPC")):
        return "ppc64"
    if first.get("vendor_id") == "IBM/S390":
        return "s390x"
    return "loongarch64" if first.get("Model Name", "").startswith("Loongson") else None


def is_virtual(root: Path, first: Mapping[str, str]) -> bool:
    """Say whether a hypervisor is known to be there: by the processor's flag, else by what the
    kernel or the firmware says."""
    if "hypervisor" in first.get("flags", "").split():
        return True
    if text(root / "sys/hypervisor/type") or (root / "proc/device-tree/hypervisor").exists():
        return True
    names = (
        text(root / f"sys/class/dmi/id/{name}") or "" for name in ("sys_vendor", "product_name")
    )
    return any(name.startswith(_HOSTS) for name in names)
