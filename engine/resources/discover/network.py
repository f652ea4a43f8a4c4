"""Network interfaces."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.resources.discover.files import number, text
from engine.resources.machine import Absent, Interface

_KINDS: Final = {1: "ethernet", 32: "infiniband", 772: "loopback"}


def read(root: Path = Path("/")) -> tuple[tuple[Interface, ...], Absent]:
    """Return the interfaces; the speed is that of the link, which virtual ones do not have."""
    directory = root / "sys/class/net"
    found = []
    for path in sorted(directory.glob("*")) if directory.is_dir() else ():
        if (path / "type").exists():
            speed = number(path / "speed")
            found.append(
                Interface(
                    name=path.name,
                    kind=_kind(path),
                    state=text(path / "operstate") or "unknown",
                    speed=speed * 10**6 if speed and speed > 0 else None,
                    mtu=number(path / "mtu"),
                )
            )
    absent = {} if found else {"interfaces": "no interface in /sys/class/net"}
    if found and not any(one.speed for one in found):
        absent["interfaces.speed"] = (
            "no link tells its speed (virtual, wireless and unplugged ones)"
        )
    return tuple(found), absent


def _kind(path: Path) -> str:
    kind = _KINDS.get(number(path / "type") or 0, "other")
    if kind != "ethernet":
        return kind
    if (path / "wireless").exists() or (path / "phy80211").exists():
        return "wireless"
    if (path / "bridge").exists():
        return "bridge"
    return "ethernet" if (path / "device").exists() else "virtual"
