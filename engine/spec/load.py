"""Spec files read and checked: TOML → attrs classes, with all faults at once."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import attrs
import cattrs
from attrs import frozen
from cattrs.errors import (
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
)

from engine.spec.faults import Fault, KeyPath, PlacedFault, SpecError, nearest, shown, spec_error
from engine.spec.model import ActionSpec, Scalar, SpecFile
from engine.spec.portions import parse
from store.errors import InputError

Form = TypeVar("Form")

_KINDS = {bool: "true or false", int: "a whole number", str: "a string", dict: "a table"}


@frozen
class Spec:
    """A spec file that has the right form; `path` is absolute."""

    path: Path
    file: SpecFile

    @property
    def directory(self) -> Path:
        """Return the directory that the spec's relative paths start from."""
        return self.path.parent


def load_spec(path: Path) -> Spec:
    """Read the spec file at `path`. Raises InputError, for a wrong form with all faults placed."""
    absolute = Path(path).absolute()
    return Spec(absolute, read(absolute, SpecFile))


def read(path: Path, form: type[Form]) -> Form:
    """Read the TOML file at `path` into `form`."""
    try:
        document = parse(path.read_text(encoding="utf-8"), _actions)
    except FileNotFoundError:
        hint = "bn init writes a first spec" if form is SpecFile else "check the path in the spec"
        raise InputError(f"{shown(path)}: no such file", hint) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"{shown(path)}: cannot be read: {reason.lower()}") from None
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(path, error) from None
    try:
        return converter().structure(document, form)
    except BaseValidationError as error:
        raise spec_error(_faults(path, error, ())) from None


def _actions(some: dict[str, Any]) -> Mapping[str, ActionSpec] | None:
    """Return some actions of a large spec structured; None where one has not the right form, for
    which the spec as a whole has the place."""
    try:
        return converter().structure(some, dict[str, ActionSpec])
    except BaseValidationError:
        return None


def _syntax_error(path: Path, error: tomllib.TOMLDecodeError) -> SpecError:
    text = str(error)
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", text)
    line, column = (1, 1)
    if place and place[1]:
        line, column = int(place[1]), int(place[2])
    elif place:
        line = path.read_text(encoding="utf-8").count("\n") + 1
    message = text[: place.start()] if place else text
    message = message[:1].lower() + message[1:]
    return SpecError([PlacedFault(shown(path), line, column, f"not TOML: {message}", "")])


@cache
def converter() -> cattrs.Converter:
    """Return the converter that takes values only of the very type that a field names."""
    made = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in (bool, int, str):
        made.register_structure_hook(kind, _exactly)
    made.register_structure_hook(float, _number)
    made.register_structure_hook_func(lambda given: given == Scalar, _scalar)
    made.register_structure_hook_func(
        lambda given: given == Scalar | tuple[Scalar, ...], _scalar_or_list
    )
    made.register_structure_hook_factory(_is_tuple, lambda given: _list_hook(made, given))
    action = made.get_structure_hook(ActionSpec)
    made.register_structure_hook(
        ActionSpec, lambda value, form: value if type(value) is ActionSpec else action(value, form)
    )
    return made


def _is_tuple(given: Any) -> bool:
    return get_origin(given) is tuple


def _exactly(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {_KINDS[kind]}, got {_described(value)}")
    return _without_nul(value)


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"expected a number, got {_described(value)}")
    return float(value)


def _without_nul(value: Any) -> Any:
    if type(value) is str and "\0" in value:
        raise TypeError("expected a string without the character NUL")
    return value


def _scalar(value: Any, _: Any) -> Scalar:
    if type(value) not in (bool, int, str):
        raise TypeError(f"expected a string, whole number or boolean, got {_described(value)}")
    return _without_nul(value)  # type: ignore[no-any-return]


def _scalar_or_list(value: Any, _: Any) -> Scalar | tuple[Scalar, ...]:
    return tuple(_scalar(item, _) for item in value) if type(value) is list else _scalar(value, _)


def _list_hook(made: cattrs.Converter, given: Any) -> Any:
    """Return the hook for `tuple[X, ...]`, where a single value stands for a list of one."""
    inner = get_args(given)[0]

    def structure(value: Any, _: Any) -> Any:
        items = [value] if type(value) is str and inner is str else value
        if inner is str and type(items) is list:  # many actions name the same
            items = [sys.intern(item) if type(item) is str else item for item in items]
        if type(items) is not list:
            raise TypeError(f"expected a list, got {_described(value)}")
        return tuple(made.structure(items, list[inner]))  # type: ignore[valid-type]

    return structure


def _described(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _faults(path: Path, error: BaseException, at: KeyPath) -> Iterator[Fault]:
    """Yield the faults in a tree of cattrs errors."""
    match error:
        case ClassValidationError():
            notes, others = error.group_exceptions()
            for inner, note in notes:
                if isinstance(inner, KeyError) and inner.args == (note.name,):
                    yield Fault(path, at, f"{_place(at)}{note.name!r} is missing", at_key=True)
                else:
                    yield from _faults(path, inner, (*at, note.name))
            for inner in others:
                yield from _faults(path, inner, at)
        case IterableValidationError():
            items, others = error.group_exceptions()
            for inner, place in items:
                yield from _faults(path, inner, (*at, place.index))
            for inner in others:
                yield from _faults(path, inner, at)
        case ForbiddenExtraKeysError():
            known = [field.name for field in attrs.fields(error.cl)]
            for name in sorted(error.extra_fields):
                message = f"{_place(at)}unknown field {name!r}"
                yield Fault(path, (*at, name), message, nearest(name, known), at_key=True)
        case TypeError() | ValueError() | AttributeError():
            text = str(error)
            if isinstance(error, AttributeError) or not text.startswith("expected"):
                text = "expected a table"
            yield Fault(path, at, f"{_place(at[:-1])}{_field(at)}{text}")
        case _:
            raise error


def _place(at: KeyPath) -> str:
    """Return the words that say which part of a spec a key path leads to."""
    match at:
        case (("sources" | "actions" | "imports" | "toolchains" | "profiles") as table, name, *_):
            return f"{table[:-1]} {name!r}: "
        case (str(table), *_):
            return f"[{table}]: "
    return ""


def _field(at: KeyPath) -> str:
    names = [part for part in at[2 if len(at) > 2 else 1 :] if isinstance(part, str)]
    return f"{'.'.join(names)}: " if names else ""
