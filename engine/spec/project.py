"""Projects: a spec with its parameters settled and the specs that it imports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen

from engine.spec.faults import Fault, KeyPath, nearest, shown, spec_error
from engine.spec.load import Spec, load_spec
from engine.spec.model import ActionSpec, Scalar
from store.errors import BnError, InputError

SPENT: Final = ActionSpec()
"""What an action says that was dropped."""

TYPE_NAMES = {bool: "true or false", int: "a whole number", str: "a string"}


@frozen(eq=False)
class Unit:
    """One spec of a project with its parameters' values; `prefix` leads its artifacts' names, as
    `zlib:`."""

    spec: Spec
    prefix: str
    params: Mapping[str, Scalar]
    imports: Mapping[str, Unit] = field(factory=dict, repr=False)

    def fault(self, path: KeyPath, message: str, hint: str = "", at_key: bool = False) -> Fault:
        """Return a fault in this unit's spec file."""
        return Fault(self.spec.path, path, message, hint, at_key)

    def spend(self, name: str) -> None:
        """Drop what an action says: nobody needs it any more."""
        actions = self.spec.file.actions
        assert isinstance(actions, dict)
        actions[name] = SPENT

    def units(self) -> Iterator[Unit]:
        """Yield this unit and all that it imports, each once, imports first."""
        yield from self._into({})

    def _into(self, seen: dict[int, Unit]) -> Iterable[Unit]:
        """Put the same into `seen`, by identity, and return what is there."""
        for imported in self.imports.values():
            if id(imported) not in seen:
                imported._into(seen)
        seen[id(self)] = self
        return seen.values()


def load_project(path: Path, sets: Mapping[str, str], profile: str | None = None) -> Unit:
    """Load the spec at `path` and, recursively, what it imports.

    `sets` are parameter values as text (`--set`), typed by the defaults. Raises InputError with all
    faults found.
    """
    spec = load_spec(path)
    params = dict(spec.file.params)
    if profile is not None:
        if profile not in spec.file.profiles:
            hint = nearest(profile, spec.file.profiles, "profiles")
            raise InputError(f"{shown(spec.path)}: unknown profile {profile!r}", hint)
        params |= spec.file.profiles[profile].params
    for name, text in sets.items():
        if name not in params:
            hint = nearest(name, params, "parameters")
            raise InputError(f"--set {name}: {shown(spec.path)} has no such parameter", hint)
        params[name] = _from_text(name, text, spec.file.params.get(name, params[name]))
    return _Loader().unit(spec, "", params, ())


def _from_text(name: str, text: str, default: Scalar) -> Scalar:
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text in ("true", "false"):
            return text == "true"
    elif re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    raise InputError(
        f"--set {name}={text}: expected {TYPE_NAMES[type(default)]}",
        f"its default is {str(default).lower()}",
    )


class _Loader:
    """Loads units, each combination of spec file and parameters once."""

    def __init__(self) -> None:
        self._units: dict[tuple[Path, tuple[tuple[str, Scalar], ...]], Unit] = {}

    def unit(
        self, spec: Spec, prefix: str, params: Mapping[str, Scalar], above: tuple[Path, ...]
    ) -> Unit:
        key = (spec.path, tuple(sorted(params.items())))
        if key in self._units:
            return self._units[key]
        faults = list(_check(spec))
        imports: dict[str, Unit] = {}
        for name, wanted in spec.file.imports.items():
            at: KeyPath = ("imports", name, "spec")
            path = Path(spec.directory, wanted.spec).resolve()
            if path in (*above, spec.path):
                chain = " → ".join(shown(p) for p in (*above, spec.path, path))
                faults.append(Fault(spec.path, at, f"import {name!r}: a cycle: {chain}"))
                continue
            try:
                other = load_spec(path)
            except BnError as error:
                if not path.exists():
                    message = f"import {name!r}: no such file: {wanted.spec}"
                    faults.append(Fault(spec.path, at, message))
                    continue
                raise error
            settled, wrong = _imported_params(spec, name, other)
            faults += wrong
            if not wrong:
                where = (*above, spec.path)
                imports[name] = self.unit(other, f"{prefix}{name}:", settled, where)
        if faults:
            raise spec_error(faults)
        made = self._units[key] = Unit(spec, prefix, params, imports)
        return made


def _imported_params(spec: Spec, name: str, other: Spec) -> tuple[dict[str, Scalar], list[Fault]]:
    params, faults = dict(other.file.params), []
    for key, value in spec.file.imports[name].set.items():
        at: KeyPath = ("imports", name, "set", key)
        if key not in params:
            message = f"import {name!r}: its spec has no parameter {key!r}"
            hint = nearest(key, params, "parameters")
            faults.append(Fault(spec.path, at, message, hint, at_key=True))
        elif type(value) is not type(params[key]):
            expected = TYPE_NAMES[type(params[key])]
            message = f"import {name!r}: parameter {key!r}: expected {expected}"
            faults.append(Fault(spec.path, at, message))
        else:
            params[key] = value
    return params, faults


def _check(spec: Spec) -> Iterator[Fault]:
    """Yield the faults of a spec that need nothing but the spec."""
    file = spec.file
    seen: dict[str, str] = {}
    for table in ("imports", "sources", "actions"):
        for name in getattr(file, table):
            if not _is_name(name):
                message = f"{table[:-1]} {name!r}: not a name"
                hint = "letters, digits, '_', '-' and '.', not a dot first"
                yield Fault(spec.path, (table, name), message, hint, at_key=True)
            elif name in seen:
                message = f"{table[:-1]} {name!r}: the name is taken by one of the {seen[name]}"
                yield Fault(spec.path, (table, name), message, at_key=True)
            seen[name] = table
    for profile, values in file.profiles.items():
        for name, value in values.params.items():
            at: KeyPath = ("profiles", profile, "params", name)
            if name not in file.params:
                message = f"profile {profile!r}: unknown parameter {name!r}"
                hint = nearest(name, file.params, "parameters")
                yield Fault(spec.path, at, message, hint, at_key=True)
            elif type(value) is not type(file.params[name]):
                expected = TYPE_NAMES[type(file.params[name])]
                message = f"profile {profile!r}: parameter {name!r}: expected {expected}"
                yield Fault(spec.path, at, message)


def _is_name(name: str) -> bool:
    plain = name.replace("_", "").replace("-", "").replace(".", "")
    return plain.isascii() and plain.isalnum() and not name.startswith(".")
