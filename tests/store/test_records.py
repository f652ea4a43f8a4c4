"""Records behave as the classes that attrs makes of the same definitions."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import attrs
import pytest

from store import records


def _shapes(library: Any) -> dict[str, Any]:
    """Return the same classes, made by one of the two."""

    @library.frozen
    class Point:
        x: int
        y: int = 0

        def far(self) -> int:
            return abs(self.x) + abs(self.y)

    @library.frozen(kw_only=True)
    class Named:
        tags: list[str] = library.field(factory=list)
        _name: str
        note: str = library.field(default="-", eq=False, repr=False)
        seen: int | None = library.field(default=None, init=False, eq=False, repr=False)

    @library.frozen(eq=False)
    class Single:
        value: object

    @library.frozen
    class Empty:
        """Nothing in it."""

    @library.define
    class Moving:
        place: int
        way: list[int] = library.field(factory=list)
        _steps: int = library.field(init=False)

        def __attrs_post_init__(self) -> None:
            self._steps = self.place + 1

    return {kind.__name__: kind for kind in (Point, Named, Single, Empty, Moving)}


LIBRARIES: list[ModuleType] = [attrs, records]

USES = {
    "repr": lambda s: repr([s["Point"](1), s["Named"](name="n"), s["Empty"](), s["Moving"](3)]),
    "repr of one field": lambda s: repr(s["Single"]((1, 2))),
    "equal": lambda s: (s["Point"](1, 2) == s["Point"](1, y=2), s["Point"](1) == s["Point"](2)),
    "equal but for": lambda s: s["Named"](name="n", note="a") == s["Named"](name="n", note="b"),
    "not equal to others": lambda s: (s["Point"](1) == (1, 0), s["Empty"]() == s["Point"](1)),
    "equal empty": lambda s: (s["Empty"]() == s["Empty"](), len({s["Empty"](), s["Empty"]()})),
    "identity": lambda s: (s["Single"](1) == s["Single"](1), len({s["Single"](1), s["Single"](1)})),
    "hash": lambda s: len({s["Point"](1), s["Point"](1), s["Point"](2)}),
    "no hash": lambda s: hash(s["Moving"](1)),
    "hash of a list": lambda s: hash(s["Named"](name="n")),
    "factory": lambda s: s["Named"](name="a").tags is s["Named"](name="b").tags,
    "missing": lambda s: s["Point"](),
    "too many": lambda s: s["Point"](1, 2, 3),
    "unknown": lambda s: s["Point"](1, z=2),
    "twice": lambda s: s["Point"](1, x=2),
    "too few": lambda s: s["Named"](note="x"),
    "kw_only": lambda s: s["Named"]("n"),
    "no argument": lambda s: s["Named"](name="n", seen=1),
    "set": lambda s: setattr(s["Point"](1), "x", 2),
    "set unknown": lambda s: setattr(s["Moving"](1), "z", 2),
    "delete": lambda s: delattr(s["Point"](1), "x"),
    "change": lambda s: _moved(s["Moving"](1)),
    "method": lambda s: s["Point"](3, -4).far(),
    "match": lambda s: [kind.__match_args__ for kind in s.values()],
    "slots": lambda s: [
        hasattr(kind, "__dict__") and "__dict__" in dir(kind) for kind in s.values()
    ],
    "doc": lambda s: (s["Empty"].__doc__, s["Empty"].__qualname__, s["Empty"].__module__),
    "fields": lambda s: [
        (a.name, a.alias, a.init, a.eq, a.repr, a.type, a.default is attrs.NOTHING)
        for a in attrs.fields(s["Named"])
    ],
    "asdict": lambda s: attrs.asdict(s["Named"](name="n", tags=["t"])),
    "attrs.evolve": lambda s: repr(attrs.evolve(s["Named"](name="n"), tags=["t"], name="m")),
    "has": lambda s: [attrs.has(kind) for kind in s.values()],
}


def _moved(moving: Any) -> tuple[int, int]:
    moving.place = 5
    return moving.place, moving._steps


def _outcome(use: Any, library: ModuleType) -> object:
    try:
        return use(_shapes(library))
    except (TypeError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("few", [0, records.FEW])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_same_as_attrs(use: Any, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FEW", few)
    assert _outcome(use, records) == _outcome(use, attrs)


def test_evolve_is_the_same() -> None:
    changed = [
        repr(library.evolve(_shapes(library)["Named"](name="n", note="x"), name="m"))
        for library in LIBRARIES
    ]
    assert changed[0] == changed[1]


def test_field_names() -> None:
    assert records.field_names(_shapes(records)["Named"]) == ("tags", "_name", "note", "seen")
