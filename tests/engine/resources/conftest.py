"""Recorded /proc and /sys trees of real machines, as directories."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

MACHINES = Path(__file__).parents[2] / "data/machines"

Tree = Callable[..., Path]


def expanded(path: str) -> Iterator[str]:
    """Yield the paths that `cpu{0-3,8}` stands for."""
    match = re.search(r"\{([\d,-]+)\}", path)
    if match is None:
        yield path
        return
    for part in match[1].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield path[: match.start()] + str(number) + path[match.end() :]


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below `root`; a value that begins with `->` is a link."""
    for path, content in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        if content.startswith("-> "):
            place.symlink_to(content[3:])
        else:
            place.write_text(content + "\n")
    return root


def recorded(name: str) -> dict[str, str]:
    """Return the files of a recorded machine by path."""
    files = {}
    for line in (MACHINES / f"{name}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"(\S+?)(?:: | (?=-> ))(.*)", line)
        assert match, line
        for path in expanded(match[1]):
            files[path] = match[2].replace("\\n", "\n").replace("\\\\", "\\")
    return files


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes the root directory of a recorded machine, with more files on top."""
    numbers = itertools.count()

    def make(name: str = "", more: Mapping[str, str] | None = None) -> Path:
        root = tmp_path / f"root{next(numbers)}"
        root.mkdir()
        return write(root, {**(recorded(name) if name else {}), **(more or {})})

    return make
