"""Depfiles: what an action says that it read, in the syntax of make."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from store.cas import Cas
from store.digest import Digest
from store.objects import Directory, Entry, File, Link
from store.trees import walk

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a depfile that are read; a larger one says nothing."""

_LINKS_FOLLOWED: Final = 40
_SPACE: Final = " \t\r\n"


class Unclear(Exception):
    """A depfile that cannot be understood, or a path in it that may be anything."""


def parse_depfile(text: str) -> list[str]:
    """Return the prerequisites of all rules in `text`, in their order, each once.

    Understood are continued lines, several rules, rules without prerequisites (-MP), `\\ `, `\\#`,
    `\\:`, `$$`, and comments. Raises Unclear for a line that is no rule.
    """
    found: dict[str, None] = {}
    for line in text.replace("\r\n", "\n").replace("\\\n", " ").split("\n"):
        words = list(_words(line))
        if not words:
            continue
        colon = next((n for n, (word, ends) in enumerate(words) if ends), None)
        if colon is None:
            raise Unclear(f"not a rule: {line.strip()}")
        found.update(dict.fromkeys(word for word, _ in words[colon + 1 :]))
    return list(found)


def _words(line: str) -> Iterator[tuple[str, bool]]:
    """Yield the words of a line, and whether a word is the last target: a colon ended it."""
    word, at, targets = "", 0, True
    while at <= len(line):
        here = line[at : at + 1]
        after = line[at + 1 : at + 2]
        if here == "" or here in _SPACE or (here == "#" and not word):
            if word:
                yield word, False
            word = ""
            if here == "#":
                return
        elif targets and here == ":" and (after == "" or after in _SPACE):
            yield word, True
            word, targets = "", False
        elif here == "\\":
            taken, length = _unescape(line[at:])
            word += taken
            at += length - 1
        elif here == "$" and after == "$":
            word += "$"
            at += 1
        else:
            word += here
        at += 1


def _unescape(text: str) -> tuple[str, int]:
    """Return what the backslashes at the start of `text` stand for, and how much of it they take.

    As make reads them: before a space or `#`, 2n+1 backslashes are n of them and that character,
    and 2n are n and a separator; anywhere else they are themselves, except that `\\:` is a colon.
    """
    count = len(text) - len(text.lstrip("\\"))
    after = text[count : count + 1]
    if after and after in " \t#":
        half = "\\" * (count // 2)
        return (half + after, count + 1) if count % 2 else (half, count)
    if after == ":" and count % 2 and text[count + 1 : count + 2] not in ("", *_SPACE):
        return "\\" * (count - 1) + ":", count + 1
    return "\\" * count, count


class Observer:
    """Paths in a depfile → inputs.

    `work` is the work directory as the action saw it; `scratch` the other directories that the
    action could write to.
    """

    def __init__(self, cas: Cas, inputs: Digest, work: str, scratch: Sequence[str]) -> None:
        self._cas = cas
        self._inputs = inputs
        self._places = work, scratch

    @cached_property
    def _work(self) -> list[str]:
        return _parts(self._places[0])

    @cached_property
    def _scratch(self) -> list[list[str]]:
        return [_parts(path) for path in self._places[1]]

    def observed(self, depfile: Path) -> tuple[str, ...] | None:
        """Return the inputs that `depfile` names: sorted, relative to the work directory.

        None where it does not tell for certain: where it names nothing at all, cannot be
        understood, or names a file that the action itself made (what that was made from is not
        told). Files outside all of these belong to the toolchain, whose digest is part of the
        action anyhow.
        Raises FileNotFoundError where there is no depfile.
        """
        try:
            named = parse_depfile(_read(depfile))
            found = {path for name in named for path in self._resolve(name)}
        except Unclear:
            return None
        return tuple(sorted(found)) if named else None

    def _resolve(self, name: str) -> Iterator[str]:
        """Yield the input that `name` is, or all inputs below it if it is a directory."""
        absolute = _parts(name) if name.startswith("/") else [*self._work, *name.split("/")]
        inside, entry = self._follow(absolute, _LINKS_FOLLOWED)
        path = "/".join(inside)
        if isinstance(entry, File):
            yield path
        elif isinstance(entry, Directory):
            for below, child in walk(self._cas, entry.digest, f"{path}/" if path else ""):
                if isinstance(child, File):
                    yield below

    def _follow(self, pending: list[str], links: int) -> tuple[list[str], Entry | None]:
        """Walk the absolute path `pending` through the inputs; None if it is outside."""
        here: list[str] = []
        entry: Entry | None = None
        for at, part in enumerate(pending):
            if part == "..":
                here = here[:-1]
            elif part not in ("", "."):
                here = [*here, part]
            entry = self._entry(here)
            if isinstance(entry, Link):
                if not links:
                    raise Unclear("links in a circle")
                above = [] if entry.target.startswith("/") else here[:-1]
                rest = [*above, *entry.target.split("/"), *pending[at + 1 :]]
                return self._follow(rest, links - 1)
        return here[len(self._work) :], entry

    def _entry(self, path: list[str]) -> Entry | None:
        """Return the input at an absolute path without links before its last part."""
        if path[: len(self._work)] != self._work:
            if any(path[: len(other)] == other for other in self._scratch):
                raise Unclear("made by the action itself")
            return None
        entry: Entry = Directory(self._inputs)
        for part in path[len(self._work) :]:
            child = None
            if isinstance(entry, Directory):
                child = self._cas.get_tree(entry.digest).entries.get(part)
            if child is None:
                raise Unclear("made by the action itself, or not there")
            entry = child
        return entry


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _read(path: Path) -> str:
    """Return the text of a depfile; whatever else an action put in its place says nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unclear("cannot be read") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise Unclear("is no file, or too large")
        with open(handle, "rb", closefd=False) as file:
            return os.fsdecode(file.read())
    finally:
        os.close(handle)
