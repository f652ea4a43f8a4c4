"""Tier tables in configuration files, edited so that comments and layout stay."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from engine.spec.faults import nearest
from store.errors import InputError, host_error
from store.store import Store
from store.tiers import LEVEL_NAMES, Tier


def tier_named(store: Store, text: str) -> Tier:
    """Return the tier of that name, or of that level (0 to 4) if it is the only one.

    Raises InputError.
    """
    tiers = store.cas.tiers
    found = [tier for tier in tiers if tier.name == text]
    if not found and text.isdigit():
        found = [tier for tier in tiers if tier.level == int(text)]
        if len(found) != 1 and int(text) < len(LEVEL_NAMES):
            names = ", ".join(tier.name for tier in found)
            kind = LEVEL_NAMES[int(text)]
            if not found:
                raise InputError(f"there is no tier of level {text} ({kind})", _known(tiers))
            raise InputError(f"several tiers have level {text} ({kind}): {names}", "name one")
    if not found:
        hint = nearest(text, [tier.name for tier in tiers], "tiers")
        raise InputError(f"there is no tier {text!r}", hint)
    return found[0]


def _known(tiers: list[Tier]) -> str:
    return "the tiers are " + ", ".join(f"{tier.name} ({tier.level})" for tier in tiers)


def add_tables(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `[tiers.NAME]` tables into the file, made where it is not there.

    Raises InputError where the file is no TOML or has one of them, HostError where it cannot be
    written.
    """
    document = _read(path)
    tiers = document.setdefault("tiers", tomlkit.table(is_super_table=True))
    for name, values in tables.items():
        if name in tiers:
            raise InputError(
                f"{path}: tier {name!r} is there already", "edit it there, or choose another name"
            )
        table = tomlkit.table()
        for key, value in values.items():
            table[key] = value
        tiers[name] = table
    _write(path, document)


def remove_table(path: Path, name: str) -> bool:
    """Take `[tiers.NAME]` out of the file; say whether it was there. Raises as `add_tables`."""
    document = _read(path)
    tiers = document.get("tiers")
    if not isinstance(tiers, MutableMapping) or name not in tiers:
        return False
    del tiers[name]
    if not tiers:
        document.remove("tiers")
    _write(path, document)
    return True


def _read(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text())
    except FileNotFoundError:
        return tomlkit.document()
    except TOMLKitError as error:
        raise InputError(f"{path}: {error}", "mend the file first") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8", "mend the file first") from error
    except OSError as error:
        raise host_error(error, "cannot read the configuration") from error


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(tomlkit.dumps(document))
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise host_error(error, "cannot write the configuration") from error
