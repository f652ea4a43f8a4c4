"""`bn build` with names and a few options: as with the parser of options, but without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.cli.asking import split_spec
from engine.cli.building import build_asked
from engine.cli.ending import ended
from engine.session import Request


def build_named(
    names: Sequence[str], options: Mapping[str, Any], will_run: bool | None = None
) -> int:
    """Build the targets `[SPEC] [TARGET]...` and return the exit code; `options` are members of the
    request, `will_run` says whether a source has changed, where that is known."""

    def command() -> int:
        spec, targets = split_spec(names)
        return build_asked(Request(spec=spec, targets=targets, will_run=will_run, **options))

    return ended(False, command)
