"""This machine's files as symbolic links lead to them."""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from store.errors import InputError


class Host:
    """Look-ups of absolute paths below `root` (tests use a directory), each directory's once."""

    def __init__(self, root: str = "") -> None:
        self._root = root
        self._directories: dict[str, str] = {"/": "/"}
        self.links: dict[str, str] = {}
        """Directories that are symbolic links, by the path that leads to them with all other links
        resolved, and their targets as they stand on disk."""
        self.seen: dict[str, os.stat_result | None] = {}
        """Everything that was asked for, by where it lies on disk, as it was then."""

    def at(self, path: str) -> str:
        """Return where the absolute path lies on disk."""
        return f"{self._root}{path}"

    def lstat(self, path: str) -> os.stat_result | None:
        """Return the status of `path` itself, None where there is nothing."""
        place = self.at(path)
        try:
            status = self.seen[place] = os.lstat(place)
            return status
        except (FileNotFoundError, NotADirectoryError):
            self.seen[place] = None
            return None
        except PermissionError as error:
            raise InputError(
                f"{path}: {(error.strerror or '').lower()}", 'leave it out with exclude = ["…"]'
            ) from error

    def readlink(self, path: str) -> str:
        """Return the target of the link at `path`."""
        return os.readlink(self.at(path))

    def canonical(self, path: str) -> str:
        """Return `path` with all links in its directory resolved, but not the last name."""
        directory, name = posixpath.split(posixpath.normpath(path))
        return posixpath.join(self._directory(directory), name)

    def real(self, path: str) -> str:
        """Return `path` with all links resolved, the last name's too."""
        return self._directory(posixpath.normpath(path))

    def _directory(self, path: str, depth: int = 0) -> str:
        known = self._directories.get(path)
        if known is not None:
            return known
        if depth > 40:
            raise InputError(f"{path}: {os.strerror(errno.ELOOP).lower()}")
        parent, name = posixpath.split(path)
        here = posixpath.join(self._directory(parent, depth + 1), name)
        status = self.lstat(here)
        found = here
        if status is not None and stat.S_ISLNK(status.st_mode):
            target = self.links[here] = self.readlink(here)
            # Not normalised as text: a `..` after a link leads to where the link leads.
            found = self._follow(posixpath.dirname(here), target, depth + 1)
        self._directories[path] = found
        return found

    def _follow(self, start: str, target: str, depth: int) -> str:
        place = "/" if target.startswith("/") else start
        for part in target.split("/"):
            if part == "..":
                place = posixpath.dirname(place)
            elif part not in ("", "."):
                place = self._directory(posixpath.join(place, part), depth)
        return place
