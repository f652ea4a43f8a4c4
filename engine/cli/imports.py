"""Imports from one file: what builds load, as Python's own caches of bytecode have it, together.

To find a module, and to compare and read its cache, takes Python some ten system calls; here it is
one stat(2) of the source and one read. The file lies beside those caches, is made of them, and is
no more than a cache as well: a module whose source, or the directory that it is in, is not as it
was then is imported in the ordinary way. ::

    magic │ length of the table (8) │ table (marshal) │ code of each module and text (marshal)
    table   sys.path, the length of all, directories with their marks, for each module its file,
            its cache, whether it is a package, its mark, and place and length of its code, and for
            each text that attrs had compiled (`compiled.py`) place and length of its code
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from _blake2 import blake2b
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import (
    MAGIC_NUMBER,
    ExtensionFileLoader,
    SourceFileLoader,
    cache_from_source,
)

from engine.record import SIGNATURE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any

    from engine.cli.compiled import Compiled

    Mark = tuple[int, int, int, int]
    Row = tuple[str, str, bool, Mark, int, int]

MAGIC = b"bn imports 2\n" + MAGIC_NUMBER

FRESH_NS = 10**9
"""What changed so shortly before this process began may have been imported as it was before."""

WORTH = 8
"""Modules and texts that were not in the file from which on it is made anew."""

MOST_TEXTS = 400
"""Texts that are kept though nobody asked for them now: twice as many as there are classes."""

_COMPILES = "attr._make"
"""The module that compiles texts."""

_HEAD = 16
"""Bytes of a module's own cache before the code: magic, flags, time and size of the source."""

_BAD = (OSError, ValueError, EOFError, TypeError, KeyError)


class Imports:
    """The finder of the modules in the file."""

    def __init__(self, path: str) -> None:
        """Take what the file at `path` has; nothing, where there is none that can be used."""
        self.path = path
        self._began_ns = time.time_ns()
        self._before = set(sys.modules)
        self._given: set[str] = set()
        self._shadowed: set[str] = set()
        self._marks: dict[str, Mark | None] = {}
        self._seen: dict[str, Mark | None] = {}
        self._modules: dict[str, Row] = {}
        self._texts: dict[bytes, tuple[int, int]] = {}
        self._compiled: Compiled | None = None
        self._file = -1
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._modules = self._read()
        except _BAD:
            pass

    def find_spec(self, name: str, path: Any = None, _target: object = None) -> Any:
        """Return the spec of a module that is in the file and still as it was, else None."""
        row = self._modules.get(name)
        if row is None:
            return None
        file, cached, package, mark, at, length = row
        place = _place(file, package)
        if path is None:
            if name in self._shadowed:
                return None
        elif list(path) != [place] or not self._rests(place):
            return None
        try:
            if SIGNATURE(os.stat(file)) != mark:
                return None
        except OSError:
            return None
        self._given.add(name)
        if not cached:
            spec = ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
        else:
            done = self._serve if name == _COMPILES else None
            loader = _Loader(name, file, (self._file, length, at), done)
            spec = ModuleSpec(name, loader, origin=file, is_package=package)
            spec.cached = cached
            if package:
                spec.submodule_search_locations = [file.rpartition("/")[0]]
        spec.has_location = True
        return spec

    def renew(self) -> None:
        """Make the file anew where much was not in it: of what is still good there, and of the
        caches of what was imported now. Where that cannot be, nothing changes."""
        directory = os.path.dirname(self.path)
        if sys.dont_write_bytecode or not os.access(directory, os.W_OK):
            return
        new = {}
        for name, module in [*sys.modules.items()]:
            if name not in self._before and name not in self._given:
                made = self._made(name, module)
                if made is not None:
                    new[name] = made
        texts = self._compiled.fresh if self._compiled is not None else {}
        if len(new) + len(texts) >= WORTH:
            for name in self._modules:
                kept = None if name in new else self._kept(name)
                if kept is not None:
                    new[name] = kept
            if len(self._texts) < MOST_TEXTS:
                texts = {key: self._text(key) for key in self._texts} | texts
            self._write(new, texts)

    # inside

    def _read(self) -> dict[str, Row]:
        head = os.pread(self._file, 1 << 17, 0)
        start = len(MAGIC) + 8
        end = start + int.from_bytes(head[len(MAGIC) : start], "little")
        if not head.startswith(MAGIC):
            return {}
        if len(head) < end:
            head += os.pread(self._file, end - len(head), len(head))
        paths, size, marks, modules, texts = marshal.loads(head[start:end])
        if paths != sys.path or end + size != os.fstat(self._file).st_size:
            return {}
        self._marks = marks
        for place in sys.path:
            if not self._rests(place):  # what is new there may have the name of what is elsewhere
                names = os.listdir(place) if os.path.isdir(place) else ()
                self._shadowed.update(name.partition(".")[0] for name in names)
        # places are counted from the table's end
        self._texts = {key: (end + at, length) for key, (at, length) in texts.items()}
        return {name: (*row[:4], end + row[4], row[5]) for name, row in modules.items()}

    def _serve(self, module: ModuleType) -> None:
        """Have a module compile no text whose code is in the file."""
        from engine.cli.compiled import Compiled

        self._compiled = Compiled(self._text)
        self._compiled.serve(module)

    def _text(self, key: bytes) -> bytes:
        """Return the code of a text."""
        at, length = self._texts[key]
        return os.pread(self._file, length, at)

    def _rests(self, directory: str) -> bool:
        """Say whether a directory is as it was when the file was made."""
        mark = self._marks.get(directory, ())
        return mark == self._mark(directory)

    def _mark(self, directory: str) -> Mark | None:
        """Return the mark of a directory as it was when it was first asked for."""
        if directory not in self._seen:
            try:
                self._seen[directory] = SIGNATURE(os.stat(directory))
            except OSError:
                self._seen[directory] = None
        return self._seen[directory]

    def _made(self, name: str, module: ModuleType) -> tuple[Row, bytes] | None:
        """Return the row of a module that was imported in the ordinary way, with its code; None
        where it may be another one by now."""
        spec = getattr(module, "__spec__", None)
        if spec is None or spec.name != name or not spec.origin:
            return None
        package = spec.submodule_search_locations is not None
        if not self._is_old(self._mark(_place(spec.origin, package))):
            return None
        try:
            mark = SIGNATURE(os.stat(spec.origin))
            if not self._is_old(mark):
                return None
            if type(spec.loader) is ExtensionFileLoader:
                return (spec.origin, "", False, mark, 0, 0), b""
            if type(spec.loader) is not SourceFileLoader:
                return None
            with open(spec.cached, "rb") as file:
                data = file.read()
        except _BAD:
            return None
        same = MAGIC_NUMBER + bytes(4) + _four(mark[0] // 10**9) + _four(mark[2])
        code = data[_HEAD:]
        return (
            ((spec.origin, spec.cached, package, mark, 0, 0), code)
            if data[:_HEAD] == same
            else None
        )

    def _kept(self, name: str) -> tuple[Row, bytes] | None:
        """Return a row of the file, with the code, where that is still good."""
        row = self._modules[name]
        try:
            if self._rests(_place(row[0], row[2])) and SIGNATURE(os.stat(row[0])) == row[3]:
                return row, os.pread(self._file, row[5], row[4])
        except OSError:
            pass
        return None

    def _is_old(self, mark: Mark | None) -> bool:
        """Say whether something was as it is since before this process began."""
        return mark is not None and max(mark[:2]) < self._began_ns - FRESH_NS

    def _write(self, modules: dict[str, tuple[Row, bytes]], texts: dict[bytes, bytes]) -> None:
        rows, places_of_texts, codes, at = {}, {}, [], 0
        for name, (row, code) in modules.items():
            rows[name] = (*row[:4], at, len(code))
            codes.append(code)
            at += len(code)
        for key, code in texts.items():
            places_of_texts[key] = (at, len(code))
            codes.append(code)
            at += len(code)
        places = {_place(row[0], row[2]) for row, _ in modules.values()} | {*sys.path}
        marks = {place: self._mark(place) for place in places}
        marks = {p: m for p, m in marks.items() if m is None or self._is_old(m)}
        table = marshal.dumps((sys.path, at, marks, rows, places_of_texts))
        temporary = f"{self.path}.{os.getpid()}"
        try:
            with open(temporary, "wb") as file:
                file.writelines([MAGIC, len(table).to_bytes(8, "little"), table, *codes])
            os.replace(temporary, self.path)
        except OSError:  # the disk is full, say
            if os.path.lexists(temporary):
                os.unlink(temporary)


class _Loader(SourceFileLoader):
    """Loads a module's code from the file, where it is (`code`: descriptor, length, offset); `done`
    is told of the module when that has run."""

    def __init__(
        self,
        name: str,
        path: str,
        code: tuple[int, int, int],
        done: Callable[[ModuleType], None] | None,
    ) -> None:
        super().__init__(name, path)
        self._code = code
        self._done = done

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code in it."""
        super().exec_module(module)
        if self._done is not None:
            self._done(module)

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code of the module."""
        try:
            found: CodeType = marshal.loads(os.pread(*self._code))
        except _BAD:
            return super().get_code(fullname)
        return found


def together() -> None:
    """Let modules be imported from one file from here on, where that has them; `sys.path` is not to
    change any more."""
    name = cache_from_source(__file__).removesuffix(".pyc")
    places = blake2b("\0".join(sys.path).encode("utf-8", "surrogateescape"), digest_size=4)
    sys.meta_path.insert(0, Imports(f"{name}.{places.hexdigest()}.all"))


def renew() -> None:
    """Make the file anew where much that was imported was not in it."""
    for one in sys.meta_path:
        if isinstance(one, Imports):
            one.renew()


def _place(file: str, package: bool) -> str:
    """Return the directory in which a module is looked for."""
    directory = file.rpartition("/")[0]
    return directory.rpartition("/")[0] if package else directory


def _four(number: int) -> bytes:
    return (number & 0xFFFFFFFF).to_bytes(4, "little")
