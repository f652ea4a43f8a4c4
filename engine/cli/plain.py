"""`bn build` with names and a few options: as with the parser of options, but without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.cli.asking import split_spec
from engine.cli.building import build_asked
from engine.cli.ending import ended
from engine.record import Stale
from engine.session import Request


def build_named(
    names: Sequence[str], options: Mapping[str, Any], stale: Stale | None = None
) -> int:
    """Build the targets `[SPEC] [TARGET]...` and return the exit code; `options` are members of the
    request, `stale` is what has changed, where that is known."""

    def command() -> int:
        spec, targets = split_spec(names)
        return build_asked(Request(spec=spec, targets=targets, stale=stale, **options))

    return ended(False, command)
