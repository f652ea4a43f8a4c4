"""Breakpoints: where a build stops and asks."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.seats import Turn
from engine.units import parse_duration, parse_size
from store.records import frozen

FIELDS: Final = ("step", "node", "cpus", "memory", "rank", "waited", "reason")
"""What conditions ask for."""

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARED: Final = re.compile(r"\s*(\w+)\s*(==|!=|<=|>=|<|>|~)\s*(.+?)\s*")


class BadCondition(Exception):
    """A condition that is none; says why, in words."""


@frozen
class Stop:
    """A breakpoint: at steps whose name fits `pattern`, on failure, or where conditions hold;
    `text` is how the user wrote it."""

    text: str
    pattern: str = ""
    failure: bool = False
    conditions: tuple[tuple[str, str, str], ...] = ()

    def holds(self, turn: Turn) -> bool:
        """Say whether it is to stop before this turn."""
        label = turn.placement.label
        if self.pattern:
            return label.startswith(f"{self.pattern}[") or fnmatch.fnmatchcase(label, self.pattern)
        values = fields(turn)
        return bool(self.conditions) and all(_holds(values, one) for one in self.conditions)


def parse_stop(words: str) -> Stop:
    """Return the breakpoint that `ARTIFACT`, `failure` or `if FIELD OP VALUE and …` asks for.

    Raises BadCondition.
    """
    text = words.strip()
    if text == "failure":
        return Stop(text, failure=True)
    if not text.startswith("if "):
        return Stop(text, pattern=text)
    conditions = []
    for part in text[3:].split(" and "):
        found = _COMPARED.fullmatch(part)
        if found is None:
            raise BadCondition(f"{part.strip()!r}: write it as FIELD OP VALUE, as memory > 1GB")
        name, op, value = found.groups()
        if name not in FIELDS:
            raise BadCondition(f"{name!r}: is none of {', '.join(FIELDS)}")
        conditions.append((name, op, value.strip("'\"")))
        _holds(dict.fromkeys(FIELDS, 0.0) | {"step": "", "node": "", "reason": ""}, conditions[-1])
    return Stop(text, conditions=tuple(conditions))


def fields(turn: Turn) -> dict[str, Any]:
    """Return what conditions ask for of a turn; memory in bytes, seconds."""
    placement = turn.placement
    return {
        "step": placement.label,
        "node": placement.node,
        "cpus": placement.cpus,
        "memory": placement.memory,
        "rank": float(turn.why.get("rank", 0.0)),
        "waited": float(turn.why.get("waited", 0.0)),
        "reason": turn.reason,
    }


def _holds(values: Mapping[str, Any], condition: tuple[str, str, str]) -> bool:
    name, op, text = condition
    value = values[name]
    if isinstance(value, str):
        if op not in ("==", "!=", "~"):
            raise BadCondition(f"{name} {op}: a text can be ==, != or ~ (a pattern with *)")
        same = fnmatch.fnmatchcase(value, text) if op == "~" else value == text
        return same if op != "!=" else not same
    if op == "~":
        raise BadCondition(f"{name} ~: a number is compared with ==, !=, <, <=, > or >=")
    try:
        wanted = parse_size(text) if name == "memory" else parse_duration(text)
    except ValueError as error:
        raise BadCondition(str(error)) from None
    return _COMPARE[op](value, wanted)
