"""Positions of values in a TOML file, looked up only when there is a fault to report.

tomlkit keeps the layout but not the offsets; its parser knows the offset while it parses, so a
parser that notes them is all that is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, Array, Item, Key
from tomlkit.parser import Parser
from tomlkit.toml_document import TOMLDocument

from engine.spec.faults import KeyPath


class _NotingParser(Parser):
    """tomlkit's parser, noting where each key and value began."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.offsets: dict[int, int] = {}
        self._kept: list[object] = []

    def _note(self, thing: object, offset: int) -> None:
        self.offsets[id(thing)] = offset
        self._kept.append(thing)  # so that no id is used twice

    def _parse_value(self) -> Item:
        offset = self._idx
        item = super()._parse_value()
        self._note(item, offset)
        return item

    def _parse_key(self) -> Key:
        while self._current in " \t":
            self.inc()
        offset = self._idx
        key = super()._parse_key()
        self._note(key, offset)
        for part in key:
            self.offsets.setdefault(id(part), offset)
            self._kept.append(part)
        return key

    def _parse_table(self, *arguments: Any, **options: Any) -> Any:
        offset = self._idx
        key, table = super()._parse_table(*arguments, **options)
        self._note(table, offset)
        self.offsets.setdefault(id(key), offset)
        self._kept.append(key)
        return key, table


class Positions:
    """Line and column (both from 1) of the values in the file at `path`."""

    def __init__(self, path: Path) -> None:
        try:
            self._text = path.read_text(encoding="utf-8")
            self._parser = _NotingParser(self._text)
            self._document: TOMLDocument | None = self._parser.parse()
        except (OSError, TOMLKitError, UnicodeDecodeError):
            self._text, self._document = "", None

    def find(self, path: KeyPath, *, at_key: bool = False) -> tuple[int, int]:
        """Return the place of the value at `path`, or of its key; else of the nearest one above."""
        if self._document is None:
            return 1, 1
        _, best = self._search(self._document, path, at_key)
        before = self._text[:best]
        return before.count("\n") + 1, best - (before.rfind("\n") + 1) + 1

    def _search(self, node: Any, path: KeyPath, at_key: bool) -> tuple[int, int]:
        """Return how many parts of `path` lead on from `node`, and the offset of the last one.

        A table may stand in several places of a file (`[a.x]`, other tables, `[a.y]`): the place
        that leads furthest counts.
        """
        best = (0, 0)
        for key, value in self._steps(node, path[0]) if path else ():
            depth, offset = self._search(value, path[1:], at_key)
            offset = offset if depth else self._offset(key, value, at_key)
            best = max(best, (depth + 1, offset), key=lambda found: found[0])
        return best

    def _offset(self, key: object, value: object, at_key: bool) -> int:
        things = (key, value) if at_key or isinstance(value, AbstractTable) else (value, key)
        known = (self._parser.offsets.get(id(thing)) for thing in things)
        return next((offset for offset in known if offset is not None), 0)

    def _steps(self, node: Any, part: str | int) -> Iterator[tuple[object, Any]]:
        if isinstance(part, int):
            items = list(node._iter_items()) if isinstance(node, Array) else []
            values = [item for item in items if id(item) in self._parser.offsets]
            if part < len(values):
                yield values[part], values[part]
            return
        container = node if isinstance(node, TOMLDocument) else getattr(node, "value", None)
        for key, value in getattr(container, "body", ()):
            if key is not None and key.key == part:
                yield key, value
