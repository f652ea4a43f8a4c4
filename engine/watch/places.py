"""Places: the directories and links that a path leads through, and the mounts they are in."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

LOCAL: Final = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "f2fs", "zfs", "bcachefs", "jfs"}
    | {"reiserfs", "nilfs2"}
)
"""File systems of which every change goes through this kernel's inodes. Others change on a server
(nfs, cifs, 9p, virtiofs, fuse), or have layers that have inodes of their own (overlay)."""

MOUNTS: Final = Path("/proc/self/mountinfo")
MOST_LINKS: Final = 40
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


def places_of(directory: bytes, known: dict[bytes, bytes]) -> list[bytes]:
    """Return what an absolute path leads through, itself the last: each directory and link, by a
    path without links in it. Raises OSError where it leads nowhere.

    `known` remembers where links lead, and nothing for directories, from one call to the next.
    """
    places = [b"/"]
    here = b""
    links = 0
    pending = directory.split(b"/")[::-1]
    while pending:
        part = pending.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            here = here.rpartition(b"/")[0]
            places.append(here or b"/")
            continue
        path = here + b"/" + part
        places.append(path)
        if path not in known:
            known[path] = os.readlink(path) if stat.S_ISLNK(os.lstat(path).st_mode) else b""
        if not known[path]:
            here = path
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(directory))
        target = known[path]
        here = b"" if target.startswith(b"/") else here
        pending += target.split(b"/")[::-1]
    if places[-1] != (here or b"/"):
        places.append(here or b"/")
    return places


def parse_mounts(text: bytes) -> dict[bytes, tuple[str, bytes]]:
    """Return the mounts that `/proc/self/mountinfo` tells of: by path, the type of the file system
    and all that is said of it."""
    mounts = {}
    for line in text.splitlines():
        words = line.split(b" ")
        path = _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), words[4])
        kind = words[words.index(b"-", 6) + 1].decode()
        mounts[path] = (kind, line)
    return mounts


def unfit(places: Iterable[bytes], mounts: dict[bytes, tuple[str, bytes]]) -> str | None:
    """Return why not all changes below `places` would be told, None where they would."""
    for place in places:
        path = place
        while path not in mounts and path != b"/":
            path = path.rpartition(b"/")[0] or b"/"
        kind = mounts[path][0] if path in mounts else "unknown"
        if kind not in LOCAL:
            return f"{os.fsdecode(place)} is on a file system of type {kind}"
    return None
