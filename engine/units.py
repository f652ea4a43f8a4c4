"""Sizes and durations as people write them, read and shown."""

from __future__ import annotations

import re
from typing import Final

_SIZES: Final = {
    "": 1, "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
}  # fmt: skip
_TIMES: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Return the bytes in `512MB`, `2GiB`, `1.5G`; raises ValueError."""
    number, unit = _split(text)
    if unit not in _SIZES:
        raise ValueError(f"{text!r} is not a size: write it as 512MB or 2GiB")
    return int(number * _SIZES[unit])


def parse_duration(text: str) -> float:
    """Return the seconds in `90s`, `10m`, `1.5h`; raises ValueError."""
    number, unit = _split(text)
    if unit not in _TIMES:
        raise ValueError(f"{text!r} is not a duration: write it as 90s or 10m")
    return number * _TIMES[unit]


def _split(text: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    return (float(match[1]), match[2]) if match else (0.0, "?")


def show_size(size: float) -> str:
    """Return bytes for people, as `12 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_duration(seconds: float) -> str:
    """Return a duration for people, as `0.42 s`, `12 s`, `3 min 20 s`."""
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
