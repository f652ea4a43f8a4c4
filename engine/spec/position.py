"""Positions of values in a TOML file, looked up only when there is a fault to report.

tomlkit keeps the layout but not the offsets; its parser knows the offset while it parses, so a
parser that notes them is all that is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, AoT, Array, Item, Key, Table
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
        entry = _entry(table)
        if entry is not None and id(entry) not in self.offsets:
            self._note(entry, offset)
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
        best, nodes = 0, list[Any]([self._document])
        for part in path:
            steps = self._steps(nodes, part)
            if not steps:
                break
            best = self._offset(*steps[0], at_key, best)
            nodes = [value for _, value in steps]
        before = self._text[:best]
        return before.count("\n") + 1, best - (before.rfind("\n") + 1) + 1

    def _offset(self, key: object, value: object, at_key: bool, above: int) -> int:
        """Return where a value or its key stands, `above` where nobody noted that."""
        things = (key, value) if at_key or isinstance(value, AbstractTable) else (value, key)
        known = (self._parser.offsets.get(id(thing)) for thing in things)
        return next((offset for offset in known if offset is not None), above)

    def _steps(self, nodes: list[Any], part: str | int) -> list[tuple[object, Any]]:
        """Return key and value of all that `part` leads to. A table, or an array of tables, may
        stand in several places of a file (`[a.x]`, other tables, `[a.y]`): `nodes` are these."""
        found = []
        if isinstance(part, int):
            values = [item for node in nodes for item in self._items(node)]
            return [(values[part], values[part])] if part < len(values) else []
        for node in nodes:
            container = node if isinstance(node, TOMLDocument) else getattr(node, "value", None)
            for key, value in getattr(container, "body", ()):
                if key is not None and key.key == part:
                    found.append((key, value))
        return found

    def _items(self, node: Any) -> list[Any]:
        """Return the values in an array, without white space and comments."""
        if isinstance(node, AoT):
            return list(node.body)
        items = list(node._iter_items()) if isinstance(node, Array) else []
        return [item for item in items if id(item) in self._parser.offsets]


def _entry(table: Any) -> Any:
    """Return the entry of an array of tables that a header `[[a.b]]` begins, which was parsed as
    `table` or within it; None where it begins none."""
    while not isinstance(table, AoT):
        body = table.value.body if isinstance(table, Table) and table.is_super_table() else ()
        if len(body) != 1:
            return None
        table = body[0][1]
    return table.body[0] if table.body else None
