"""Temporaries: the files of a tier that are not whole yet."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import Final

from store.owners import mark
from store.spread import make_spread

_PLACES: Final = 64
"""Directories for temporaries, at most. Their names begin with `t` (a number would look like a
process) and go on at random: ext4 places a directory by its name, and those of the last store are
worn out."""

_FILES_A_PLACE: Final = 64
"""Temporaries of this process after which there is one more of them: to make one takes ext4 as long
as ten to thirty files do where all is well, as it looks at all groups of the disk."""

_numbers = itertools.count()


class Temporaries:
    """The temporaries in one directory, of this process and of others."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._places: list[str] = []

    def create(self) -> None:
        """Make the directory where it is not there. Raises OSError."""
        make_spread(self._directory)
        self._places = self._known_places()
        if not self._places and os.access(self._directory, os.W_OK):
            self._add_place()

    def new(self) -> str:
        """Return a path that nobody else uses."""
        number = next(_numbers)
        if 0 < len(self._places) < min(_PLACES, 1 + number // _FILES_A_PLACE):
            with contextlib.suppress(OSError):
                self._add_place()
        place = self._places[number % len(self._places)] if self._places else "."
        return f"{self._directory}/{place}/{mark()}-{number}"

    def directories(self) -> list[str]:
        """Return the directories in which temporaries are, the one of all of them first."""
        return [self._directory, *(f"{self._directory}/{name}" for name in self._known_places())]

    def unfinished(self) -> list[str]:
        """Return the paths of all temporaries that are there now."""
        directories = self.directories()
        found = [f"{place}/{name}" for place in directories for name in os.listdir(place)]
        return sorted({*found}.difference(directories))

    def _known_places(self) -> list[str]:
        return [name for name in os.listdir(self._directory) if name.startswith("t")]

    def _add_place(self) -> None:
        first = min(self._places, default="")
        name = f"{first}.{len(self._places)}" if first else f"t{os.urandom(4).hex()}"
        with contextlib.suppress(FileExistsError):  # another process needed one more
            os.mkdir(f"{self._directory}/{name}")
        self._places.append(name)
