"""Detection of what kind of storage holds a directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

from store.tiers import HDD, NETWORK, NVME, RAM, SSD

RAM_TYPES: Final = {"tmpfs", "ramfs"}
NETWORK_TYPES: Final = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs", "lustre"),
    *("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs", "beegfs", "ocfs2", "davfs"),
}
NETWORK_DEVICES: Final = ("nbd", "rbd", "drbd")

NVME_SECONDS: Final = 150e-6
SSD_SECONDS: Final = 1e-3
HDD_SECONDS: Final = 3e-3
"""Seconds for 4 KiB past the page cache: below the first it counts as NVMe, below the second as
SSD, above the third as HDD; in between the rotational flag decides."""

Latency = Callable[[Path, str], float | None]
"""Gives the seconds that 4 KiB take on the device that holds a path, if that can be told."""


@frozen
class Mount:
    """A file system in use: its device, mount point, type and options."""

    device: str
    point: str
    kind: str
    options: str


def detect_level(path: Path, root: Path = Path("/"), latency: Latency | None = None) -> int:
    """Return the tier level of the storage that holds `path`, or will when it is made.

    By the file system's type, then by the name and the rotational flag of its devices, then, where
    they say rotational or nothing at all (virtual disks do), by `latency`. `root` is where /proc,
    /sys and /run are looked for.
    """
    return level_of(mounted(path, root), path, root, latency)


def level_of(
    mount: Mount, path: Path, root: Path = Path("/"), latency: Latency | None = None
) -> int:
    """Return the tier level of what holds `path` in a file system that is mounted as told."""
    if mount.kind in RAM_TYPES:
        return RAM
    if mount.kind in NETWORK_TYPES:
        return NETWORK
    if mount.kind == "overlay":
        upper = re.search(r"(?:^|,)upperdir=([^,]+)", mount.options)
        if upper and mounted(Path(upper[1]), root).kind != "overlay":
            return detect_level(Path(upper[1]), root, latency)
    names = list(_devices(mount, root))
    if names and all(name.startswith("nvme") for name in names):
        return NVME
    if any(name.startswith(NETWORK_DEVICES) for name in names):
        return NETWORK
    flags = {_rotational(name, root) for name in names} or {None}
    if flags <= {False}:
        return SSD
    seconds = latency(path, mount.device) if latency else None
    return _by_latency(seconds, rotational=True in flags)


def _by_latency(seconds: float | None, *, rotational: bool) -> int:
    if seconds is not None:
        if seconds < NVME_SECONDS:
            return NVME
        if seconds < SSD_SECONDS:
            return SSD
        if seconds > HDD_SECONDS:
            return HDD
    return HDD if rotational else SSD


def mounted(path: Path, root: Path = Path("/")) -> Mount:
    """Return the file system that holds `path`, from /proc/self/mounts."""
    while not path.exists() and path != path.parent:
        path = path.parent
    place = str(path.resolve())
    best = Mount("", "", "", "")
    for mount in mounts(root):
        inside = place == mount.point or place.startswith(mount.point.rstrip("/") + "/")
        if inside and len(mount.point) >= len(best.point):
            best = mount
    return best


def mounts(root: Path = Path("/")) -> Iterator[Mount]:
    """Yield the file systems in use, in the order that they were mounted; raises OSError."""
    for line in (root / "proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        device, point, kind, options, *_ = map(_plain, line.split(" "))
        yield Mount(device, point, kind, options)


def _plain(field: str) -> str:
    r"""Return a field of /proc/self/mounts with its `\040` as they are."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _devices(mount: Mount, root: Path) -> Iterator[str]:
    """Yield the names of the disks, or parts of them, that hold a file system."""
    if mount.kind == "zfs":
        yield from _of_pool(mount.device.partition("/")[0], root)
        return
    device = root / mount.device.lstrip("/")
    name = os.path.basename(os.path.realpath(device))
    if (root / "sys/class/block" / name).exists():
        yield from _slaves(name, root)


def _slaves(name: str, root: Path) -> Iterator[str]:
    """Yield what a mapped (dm-*), RAID (md*) or loop device is made of, else its own name."""
    block = root / "sys/class/block" / name
    try:
        slaves = sorted(os.listdir(block / "slaves"))
    except OSError:
        slaves = []
    for slave in slaves:
        yield from _slaves(slave, root)
    try:
        file = Path((block / "loop/backing_file").read_text().strip())
    except OSError:
        if not slaves:
            yield name
        return
    yield from _devices(mounted(file, root), root)


def _of_pool(pool: str, root: Path) -> Iterator[str]:
    """Yield the members of a ZFS pool, as udev noted them."""
    for block in sorted((root / "sys/class/block").glob("*")):
        try:
            known = root / "run/udev/data" / f"b{(block / 'dev').read_text().strip()}"
            lines = known.read_text().splitlines()
        except OSError:
            continue
        if "E:ID_FS_TYPE=zfs_member" in lines and f"E:ID_FS_LABEL={pool}" in lines:
            yield block.name


def _rotational(name: str, root: Path) -> bool | None:
    """Return the device's rotational flag, a partition's from its disk; None if unknown."""
    block = root / "sys/class/block" / name
    for place in (block, block.resolve().parent):
        try:
            return (place / "queue/rotational").read_text().strip() == "1"
        except OSError:
            continue
    return None
