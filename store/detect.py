"""Detection of what kind of storage holds a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from store.tiers import HDD, NETWORK, NVME, RAM, SSD

RAM_TYPES: Final = {"tmpfs", "ramfs"}
NETWORK_TYPES: Final = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs", "lustre"),
    *("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs", "beegfs", "ocfs2"),
}


def detect_level(path: Path, root: Path = Path("/")) -> int:
    """Return the tier level of the storage that holds `path`, or will when it is made.

    By the file system's type first, then by the device's name and rotational flag. `root` is where
    /proc and /sys are looked for.
    """
    device, kind = mounted(path, root)
    if kind in RAM_TYPES:
        return RAM
    if kind in NETWORK_TYPES:
        return NETWORK
    name = os.path.basename(os.path.realpath(device))
    if name.startswith("nvme"):
        return NVME
    rotational = _rotational(name, root)
    if rotational is None:
        return SSD
    return HDD if rotational else SSD


def mounted(path: Path, root: Path = Path("/")) -> tuple[str, str]:
    """Return the device and type of the file system that holds `path`, from /proc/self/mounts."""
    while not path.exists():
        path = path.parent
    place = str(path.resolve())
    best = ("", "", "")
    for line in (root / "proc/self/mounts").read_text().splitlines():
        device, point, kind, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, device, kind)
    return best[1], best[2]


def _rotational(name: str, root: Path) -> bool | None:
    """Return the device's rotational flag, a partition's from its disk; None if unknown."""
    block = root / "sys/class/block" / name
    for place in (block, block.resolve().parent):
        try:
            return (place / "queue/rotational").read_text().strip() == "1"
        except OSError:
            continue
    return None
