"""File systems in use and the type of what holds them, told as the store tells it of its tiers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from engine.config import TYPES
from engine.resources.machine import Absent, Storage
from store.detect import NETWORK_TYPES, RAM_TYPES, Latency, Mount, level_of, mounts

SYSTEM: Final = ("/proc", "/sys", "/dev", "/run", "/boot", "/snap", "/var/lib/docker")
"""Mounts below these hold nothing of users, but for the RAM disk."""

_NAMES: Final = {level: name for name, level in TYPES.items()}

RAM_DISK: Final = "/dev/shm"


def read(
    root: Path = Path("/"), latency: Latency | None = None
) -> tuple[tuple[Storage, ...], Absent]:
    """Return the file systems that can hold files of users; the last one mounted at a place counts.

    `latency` decides where the kernel's flags do not tell; see `store.detect`.
    """
    try:
        last = {mount.point: mount for mount in mounts(root)}
    except OSError:
        return (), {"storage": "/proc/self/mounts cannot be read"}
    found = [_storage(mount, root, latency) for _, mount in sorted(last.items()) if _counts(mount)]
    absent = {} if found else {"storage": "no file system with a device, on a network or in RAM"}
    if found and root != Path("/"):
        absent["storage.size"] = "sizes are told by the kernel that has them mounted only"
    return tuple(found), absent


def _counts(mount: Mount) -> bool:
    if "ro" in mount.options.split(","):
        return False
    if mount.point == RAM_DISK:
        return True
    if any(mount.point == place or mount.point.startswith(f"{place}/") for place in SYSTEM):
        return False
    named = mount.device.startswith("/dev/") and mount.kind not in ("squashfs", "iso9660")
    return named or mount.kind in NETWORK_TYPES | RAM_TYPES | {"overlay", "zfs", "btrfs"}


def _storage(mount: Mount, root: Path, latency: Latency | None) -> Storage:
    size, free = None, None
    if root == Path("/"):
        try:
            told = os.statvfs(mount.point)
            size, free = told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize
        except OSError:  # unreachable, or not ours to look at
            pass
    return Storage(
        point=mount.point,
        device=mount.device,
        filesystem=mount.kind,
        type=_NAMES[level_of(mount, Path(mount.point), root, latency)],
        size=size,
        free=free,
    )
