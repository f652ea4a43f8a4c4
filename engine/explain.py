"""Explanations: what differs between two actions, in words that name the cause."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from store.alike import differing
from store.cas import Cas
from store.digest import Digest
from store.errors import BnError
from store.objects import Action, Directory, Entry, File, Link
from store.records import frozen

Where = Callable[[Cas, Entry, Entry], str]
"""Tells where two versions of an entry differ."""

SHOWN: Final = 3
"""Differences that are told in one line."""

LINES_COMPARED_TO = 1_000_000
"""Bytes up to which two versions of a text file are compared line by line."""


@frozen
class Change:
    """One difference between two actions.

    `kind` is file, flag, variable, tool, output, platform, isolation or depfile; `name` says which
    one, `detail` how it differs.
    """

    kind: str
    name: str
    detail: str

    def __str__(self) -> str:
        """Return it as a phrase: `file src/a.c changed (line 3)`."""
        return " ".join(part for part in (self.kind, self.name, self.detail) if part)


def differences(
    cas: Cas, old: Action, new: Action, *, detailed: float = math.inf
) -> Iterator[Change]:
    """Yield what makes `new` another action than `old`; nothing where they are equal.

    Of so many files it is told where they differ, as the first changed line of a text file, for
    which both versions are read.
    """
    count = itertools.count(1)

    def where(cas: Cas, old: Entry, new: Entry) -> str:
        return _where(cas, old, new) if next(count) <= detailed else ""

    roots = Directory(old.input_root), Directory(new.input_root)
    yield from _file_changes(cas, "", *roots, "file", where)
    yield from _command_changes(old.command, new.command)
    for name in sorted({*old.env, *new.env}):
        before, after = old.env.get(name), new.env.get(name)
        if before != after:
            yield Change("variable", name, _shift(before, after))
    yield from _tool_changes(cas, old, new, where)
    for path in sorted({*old.outputs} ^ {*new.outputs}):
        yield Change("output", path, "added" if path in new.outputs else "removed")
    for kind in ("platform", "isolation", "depfile"):
        before, after = str(getattr(old, kind)), str(getattr(new, kind))
        if before != after:
            yield Change(kind, "", _shift(before, after))


def why_other(cas: Cas, olds: Iterable[Action], new: Action) -> str | None:
    """Return in words how `new` differs from that one of `olds` from which it differs least, empty
    where it does not; None where there is nothing to compare with."""
    rest = iter(olds)
    first = next(rest, None)
    if first is None:
        return None
    words, many = _told(differences(cas, first, new, detailed=SHOWN))
    if many > 1:
        old = nearest(cas, itertools.chain([first], rest), new)
        if old is not None and old is not first:
            return in_words(differences(cas, old, new, detailed=SHOWN))
    return words


def nearest(cas: Cas, olds: Iterable[Action], new: Action) -> Action | None:
    """Return that one of `olds` from which `new` differs least, the first of equals."""
    found: Action | None = None
    fewest: int | None = None
    for old in olds:
        some = itertools.islice(differences(cas, old, new, detailed=0), fewest)
        count = sum(1 for _ in some)
        if fewest is None or count < fewest:
            found, fewest = old, count
        if count == 1:
            break
    return found


def in_words(changes: Iterable[Change]) -> str:
    """Return the first few changes as one line, and how many more there are."""
    return _told(changes)[0]


def _told(changes: Iterable[Change]) -> tuple[str, int]:
    """Return changes as one line, and how many they are."""
    left = iter(changes)
    first = list(itertools.islice(left, SHOWN))
    shown = "; ".join(map(str, first))
    more = sum(1 for _ in left)
    return f"{shown}; and {more} more" if more else shown, len(first) + more


def _file_changes(
    cas: Cas, path: str, old: Entry | None, new: Entry | None, kind: str, where: Where
) -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, Directory) and isinstance(new, Directory):
        below = f"{path}/" if path else ""
        try:
            for name, before, after in differing(cas, old.digest, new.digest):
                yield from _file_changes(cas, f"{below}{name}", before, after, kind, where)
        except BnError:
            yield Change(kind, path, "changed (what it was before is no longer in the store)")
    elif old is None:
        yield Change(kind, path, "added")
    elif new is None:
        yield Change(kind, path, "removed")
    else:
        yield Change(kind, path, f"changed{where(cas, old, new)}")


def _where(cas: Cas, old: Entry, new: Entry) -> str:
    match old, new:
        case File(digest=a, size=size_a), File(digest=b, size=size_b):
            if a == b:
                return " (executable bit)"
            if max(size_a, size_b) <= LINES_COMPARED_TO:
                return _line(cas, a, b)
        case Link(a_target), Link(b_target):
            return f" ({_shift(a_target, b_target)})"
    return ""


@functools.lru_cache(maxsize=16)
def _line(cas: Cas, old: Digest, new: Digest) -> str:
    """Return which line of a text file is the first that differs: of one that many actions read it
    is asked as often."""
    try:
        before, after = cas.get_bytes(old).decode(), cas.get_bytes(new).decode()
    except (BnError, UnicodeDecodeError):
        return ""
    if "\0" in after:
        return ""
    number = 1
    for left, right in zip(before.splitlines(), after.splitlines(), strict=False):
        if left != right:
            break
        number += 1
    return f" (line {number})"


def _command_changes(old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    if old == new:
        return
    import difflib

    if old[:-1] == new[:-1] and old[1:3] == ("-eu", "-c"):
        if old != new:
            lines = list(difflib.ndiff(old[-1].splitlines(), new[-1].splitlines()))
            said = [line for line in lines if line[:1] in "+-"]
            yield Change("script", "", f"changed: {' '.join(said[:2])}")
        return
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            before, after = " ".join(old[a:b]), " ".join(new[c:d])
            yield Change("flag", "", _shift(before or None, after or None))


def _tool_changes(cas: Cas, old: Action, new: Action, where: Where) -> Iterator[Change]:
    if old.toolchains == new.toolchains:
        return
    if len(old.toolchains) != len(new.toolchains):
        count = f"{len(old.toolchains)} → {len(new.toolchains)}"
        yield Change("tool", "toolchains", f"number changed: {count}")
        return
    for before, after in zip(old.toolchains, new.toolchains, strict=True):
        yield from _file_changes(cas, "", Directory(before), Directory(after), "tool", where)


def _shift(old: str | None, new: str | None) -> str:
    if old is None:
        return f"added: {new}"
    if new is None:
        return f"removed: {old}"
    return f"{old} → {new}"
