"""Large specs parsed in portions: the parser notes more of each table, for as long as it runs, than
the table takes, and the table more than what it is structured into."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, Final

LARGE: Final = 1 << 18
"""Characters from which on a spec is parsed in portions."""

TOGETHER: Final = 512
"""Actions that are parsed at once."""

_ACTIONS: Final = "actions"
_HEADER: Final = re.compile(r"^\[actions\.[A-Za-z0-9_-]+\][ \t\r]*$", re.MULTILINE)
_WHOLE: Final = re.compile(r"^[ \t]*\[[ \t]*[\"']?actions[\"']?[ \t]*\]|\"\"\"|'''", re.MULTILINE)
"""What tells of a spec that is not to be taken apart: a table of all actions, text of many lines,
in which a line may look like a table's."""


Form = Callable[[dict[str, Any]], Any]
"""Gives some actions another form, by the same names; None where they have none."""


def parse(text: str, form: Form = lambda actions: actions) -> dict[str, Any]:
    """Return what `tomllib.loads` returns, with the actions of a spec that is parsed in portions
    in the form that `form` gives. Raises TOMLDecodeError as it does."""
    if len(text) < LARGE or _WHOLE.search(text):
        return tomllib.loads(text)
    return _joined(text, form) or tomllib.loads(text)


def _joined(text: str, form: Form) -> dict[str, Any] | None:
    """Return a spec of its portions; None where these are not each by itself some of its actions,
    or where there is a mistake in one."""
    portions = _portions(text)
    try:
        document = tomllib.loads(next(portions))
        if _ACTIONS in document:
            return None
        actions: dict[str, Any] = {}
        for portion in portions:
            some = tomllib.loads(portion)
            more = some.pop(_ACTIONS, None)
            if some or not isinstance(more, dict) or not actions.keys().isdisjoint(more):
                return None
            formed = form(more)
            if formed is None:
                return None
            actions |= formed
    except tomllib.TOMLDecodeError:
        return None  # the place of a mistake is counted from the beginning
    return {**document, _ACTIONS: actions} if actions else document


def _portions(text: str) -> Iterator[str]:
    """Yield what stands before the first action, then some actions at a time."""
    start = 0
    for number, found in enumerate(_HEADER.finditer(text)):
        if number % TOGETHER == 0:
            yield text[start : found.start()]
            start = found.start()
    yield text[start:]
