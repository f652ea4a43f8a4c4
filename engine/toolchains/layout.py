"""The layout of a toolchain's tree: which of this machine's files stand where in it."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import frozen

from engine.toolchains.host import Host
from store.errors import InputError
from store.objects import Link
from store.trees import stays_inside

_MOST_LINKS: Final = 40


@frozen
class Taken:
    """A regular file that is taken from the path `source`, with its status when it was chosen."""

    source: str
    status: os.stat_result


@frozen
class Move:
    """What lies at or below `source` on the machine stands at or below `place` in the tree."""

    source: str
    place: str

    def of(self, path: str) -> str:
        """Return where an absolute path of the machine stands in the tree."""
        if path == self.source or path.startswith(f"{self.source}/"):
            return self.place + path[len(self.source) :]
        return path


NOWHERE: Final = Move("/", "/")

Placed: TypeAlias = Taken | Link


class Layout:
    """Files and links by their path in the tree, without a leading slash.

    Directories that are links on the machine (/bin → usr/bin) are links in the tree too, and what
    is under them stands where they lead. `exclude` is asked about paths in the tree.
    """

    def __init__(self, host: Host, exclude: Callable[[str], bool]) -> None:
        self.host = host
        self.entries: dict[str, Placed] = {}
        self.excluded = exclude
        self._directories: set[str] = set()

    def take(
        self, path: str, content: str | None = None, *, move: Move = NOWHERE, public: bool = False
    ) -> None:
        """Take the absolute `path`, if it is a file or a link, with its content from elsewhere.

        With `public`, files that not everybody may read are left out, even for root: otherwise the
        tree would depend on who imports it. Set-id bits do not exist in trees.
        """
        path = self.host.canonical(path)
        place = self._settled(move.of(path))
        source = path if content is None else self.host.canonical(content)
        status = None if self.excluded(place) else self.host.lstat(source)
        if status is None:
            return
        if stat.S_ISLNK(status.st_mode):
            self._put(place, Link(self._inside(place, source, self.host.readlink(source), move)))
        elif stat.S_ISREG(status.st_mode) and (status.st_mode & stat.S_IROTH or not public):
            self._put(place, Taken(source, status))

    def link(self, link: str, target: str) -> None:
        """Add a link at an absolute path to another one, unless something is there already."""
        place = self._settled(self.host.canonical(link))
        to = self.host.canonical(target)
        if place not in self.entries and not self.excluded(place) and self.resolve(to) is not None:
            self._put(place, Link(_relative(to, place)))

    def _settled(self, path: str) -> str:
        """Return the place in the tree of an absolute path, where links in the tree lead it."""
        directory, name = posixpath.split(path.lstrip("/"))
        if not directory:
            return name
        found = self.resolve(directory)
        return posixpath.join(self._settled(directory) if found is None else found, name)

    def _put(self, place: str, entry: Placed) -> None:
        if place in self._directories:
            raise InputError(f"/{place}: a file and a directory at once in the toolchain")
        for parent in _parents(place):
            if parent in self.entries:
                raise InputError(f"/{parent}: a file and a directory at once in the toolchain")
            self._directories.add(parent)
        self.entries[place] = entry

    def resolve(self, place: str) -> str | None:
        """Return where a path in the tree leads with all links followed, None where to nothing."""
        rest = place.split("/")[::-1]
        here: list[str] = []
        followed = 0
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del here[-1:]
                continue
            here.append(part)
            entry = self.entries.get("/".join(here))
            if isinstance(entry, Link):
                followed += 1
                if followed > _MOST_LINKS:
                    return None
                here = [] if entry.target.startswith("/") else here[:-1]
                rest.extend(entry.target.split("/")[::-1])
        found = "/".join(here)
        return found if not found or found in self.entries or found in self._directories else None

    def settle(self) -> None:
        """Add the links that are directories on the machine, and drop links that lead nowhere."""
        for path, target in list(self.host.links.items()):
            place = path.lstrip("/")
            if self._leads_somewhere(path) and place not in self._directories:
                self.entries.setdefault(place, Link(self._inside(place, path, target)))
        while True:
            dangling = [
                place
                for place, entry in self.entries.items()
                if isinstance(entry, Link) and self.resolve(place) is None
            ]
            if not dangling:
                return
            for place in dangling:
                del self.entries[place]
            self._directories = {parent for place in self.entries for parent in _parents(place)}

    def _leads_somewhere(self, path: str) -> bool:
        place = self.host.real(path).lstrip("/")
        return not self.excluded(path.lstrip("/")) and place in self._directories

    def _inside(self, place: str, path: str, text: str, move: Move = NOWHERE) -> str:
        """Return the target of the link at `path`, `text` on the machine, for a link at `place`."""
        absolute = self.host.canonical(posixpath.join(posixpath.dirname(path), text))
        target = f"/{self._settled(move.of(absolute))}"
        as_text = posixpath.normpath(posixpath.join("/", posixpath.dirname(place), text))
        if as_text == target and stays_inside(place, text):
            return text
        return _relative(target, place)


def _relative(target: str, place: str) -> str:
    return posixpath.relpath(target, f"/{posixpath.dirname(place)}")


def _parents(place: str) -> list[str]:
    parts = place.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]
