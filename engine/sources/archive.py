"""Archives unpacked straight into the store, without a directory in between."""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import IO, Final

from engine.sources.members import Kind, Member, members, reading
from store.cas import Cas, empty_tree
from store.digest import Digest
from store.errors import InputError, IntegrityError, host_error
from store.objects import Directory, Entry, File, Link
from store.trees import build_tree, stays_inside

MOST_BYTES: Final = 20 << 30
"""Bytes that an archive may unpack to; more is taken for a decompression bomb."""

MOST_MEMBERS: Final = 2_000_000
"""Members that an archive may have."""

_IN_MEMORY: Final = 8 << 20
"""Members up to this many bytes are stored from memory, larger ones by way of a temporary."""

_EXCLUDE_HINT: Final = 'leave it out with exclude = ["…"]'


def unpack(
    cas: Cas,
    file: File,
    shown: str,
    strip: int = 0,
    exclude: Callable[[str], bool] = lambda path: False,
) -> Digest:
    """Store the content of the archive `file` (tar, plain or compressed, or zip) as a tree.

    `strip` leading components are dropped from every name, and members that have no more than
    these; `exclude` is asked about what is left of the names. Of members with the same name the
    last wins. `shown` names the archive in errors. Raises InputError for what no tree can hold
    (absolute names, `..`, devices, links that leave the tree) and IntegrityError for a damaged
    archive.
    """
    unpacker = _Unpacker(cas, shown, strip, exclude)
    with open(cas.path(file.digest, file.executable), "rb") as stream, reading(shown):
        for member in members(stream):
            unpacker.take(member)
    if not unpacker.entries:
        raise InputError(
            f"{shown}: nothing is left of the archive with strip = {strip}", "lower strip"
        )
    try:
        return build_tree(cas, unpacker.entries)
    except IntegrityError as error:
        raise InputError(f"{shown}: {error.message}", _EXCLUDE_HINT) from error


class _Unpacker:
    """Collects the entries of one archive."""

    def __init__(self, cas: Cas, shown: str, strip: int, exclude: Callable[[str], bool]) -> None:
        self.entries: dict[str, Entry] = {}
        self._cas = cas
        self._shown = shown
        self._strip = strip
        self._exclude = exclude
        self._files: dict[str, File] = {}
        self._empty = Directory(empty_tree(cas))
        self._members = 0
        self._bytes = 0

    def take(self, member: Member) -> None:
        """Store one member, unless it is stripped or excluded."""
        self._members += 1
        self._bytes += member.size
        if self._bytes > MOST_BYTES or self._members > MOST_MEMBERS:
            raise InputError(
                f"{self._shown}: the archive unpacks to more than bn accepts",
                f"limits: {MOST_BYTES >> 30} GiB and {MOST_MEMBERS} members",
            )
        parts = self._parts(member)
        path = "/".join(parts[self._strip :])
        if not path or self._exclude(path):
            return
        self._check_utf8(member)
        self.entries[path] = self._entry(member, path, "/".join(parts))

    def _entry(self, member: Member, path: str, name: str) -> Entry:
        match member.kind:
            case Kind.DIRECTORY:
                return self._empty
            case Kind.FILE:
                file = self._files[name] = self._store(member)
                return file
            case Kind.HARD_LINK:
                # What it links to may have been stripped or excluded: then it is read again.
                original = "/".join(part for part in member.target.split("/") if part != ".")
                return self._files.get(original) or self._store(member)
            case Kind.LINK:
                if member.target and stays_inside(path, member.target):
                    return Link(member.target)
                raise self._refused(member, f"a link that leaves the tree: {member.target}")
            case Kind.OTHER:
                raise self._refused(member, "a device or a pipe")

    def _parts(self, member: Member) -> list[str]:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.name.startswith("/"):
            raise self._refused(member, "an absolute name")
        if ".." in parts or "\0" in member.name:
            raise self._refused(member, "a name that may leave the tree")
        return parts

    def _store(self, member: Member) -> File:
        with member.open() as content:
            if member.size > _IN_MEMORY:
                return self._store_large(member, content)
            # A hard link says size 0 and has its target's content.
            data = content.read()
        if member.kind is Kind.FILE and len(data) != member.size:
            raise self._truncated(member)
        digest = self._cas.put_bytes(data, member.executable)
        return File(digest, len(data), member.executable)

    def _store_large(self, member: Member, content: IO[bytes]) -> File:
        temporary = self._cas.temporary()
        try:
            with open(temporary, "xb", buffering=0) as target:
                while chunk := content.read(_IN_MEMORY):
                    _write(target, chunk)
            file = self._cas.adopt(temporary, member.executable)
        finally:
            Path(temporary).unlink(missing_ok=True)
        if file.size != member.size:
            raise self._truncated(member)
        return file

    def _check_utf8(self, member: Member) -> None:
        try:
            (member.name + member.target).encode()
        except UnicodeEncodeError:
            raise self._refused(member, "a name that is not UTF-8") from None

    def _refused(self, member: Member, why: str) -> InputError:
        name = member.name.encode("utf-8", "backslashreplace").decode()
        return InputError(f"{self._shown}: member {name!r}: {why}", _EXCLUDE_HINT)

    def _truncated(self, member: Member) -> IntegrityError:
        return IntegrityError(f"{self._shown}: member {member.name!r} is truncated or corrupt")


def _write(file: FileIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise host_error(error, "cannot write to the store") from error
