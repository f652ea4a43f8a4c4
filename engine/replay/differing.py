"""Two output trees compared: the first file that is not the same, where, and in what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.replay.kinds import LARGEST, first_difference, kind_of
from store.cas import Cas
from store.digest import Digest
from store.objects import Directory, Entry, File, Link
from store.records import frozen
from store.trees import walk

SHOWN: Final = 24
"""Bytes that are shown from a difference on."""


@frozen(kw_only=True)
class Difference:
    """A path of which two outputs have something else: `offset` of the first other byte (None where
    that is no question of bytes), what differs in words, the bytes from there on."""

    path: str
    kind: str
    offset: int | None = None
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        """Return it as a phrase."""
        place = "" if self.offset is None else f", byte {self.offset}"
        bytes_ = f": {self.before} and {self.after}" if self.before or self.after else ""
        return f"{self.path}{place}: {self.kind}{bytes_}"


def differences(
    cas: Cas,
    before: Digest,
    after: Digest,
    began: tuple[float | None, float],
    words: frozenset[str] = frozenset(),
) -> Iterator[Difference]:
    """Yield where two trees differ, by path; see `kind_of`. Raises BnError where one is gone."""
    ours, theirs = dict(walk(cas, before)), dict(walk(cas, after))
    for path in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(path), theirs.get(path)
        if one != other:
            yield _difference(cas, path, one, other, began, words)


def _difference(
    cas: Cas,
    path: str,
    one: Entry | None,
    other: Entry | None,
    began: tuple[float | None, float],
    words: frozenset[str],
) -> Difference:
    match one, other:
        case File(digest=a, size=size), File(digest=b, size=other_size):
            if a == b:
                return Difference(path=path, kind="the executable bit")
            if max(size, other_size) > 4 * LARGEST:
                return Difference(path=path, kind=f"bytes of a large file ({a} and {b})")
            before, after = cas.get_bytes(a), cas.get_bytes(b)
            at = first_difference(before, after)
            return Difference(
                path=path,
                kind=kind_of(before, after, began, words),
                offset=at,
                before=_shown(before[at : at + SHOWN]),
                after=_shown(after[at : at + SHOWN]),
            )
        case Link(target), Link(other_target):
            return Difference(path=path, kind=f"links to {target!r} and to {other_target!r}")
        case (None, _):
            return Difference(path=path, kind="it was not there before")
        case (_, None):
            return Difference(path=path, kind="it is not there any more")
    return Difference(path=path, kind=f"{_form(one)} and {_form(other)}")


def _form(entry: Entry | None) -> str:
    match entry:
        case File():
            return "a file"
        case Link():
            return "a link"
        case Directory():
            return "an empty directory"
    return "nothing"


def _shown(data: bytes) -> str:
    return repr(data)[1:]
