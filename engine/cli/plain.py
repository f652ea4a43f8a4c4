"""`bn build` with nothing but names: the same as with the parser of options, but without it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.cli.asking import split_spec
from engine.cli.building import build_asked
from engine.cli.ending import ended
from engine.session import Request


def build_named(names: Sequence[str], will_run: bool | None = None) -> int:
    """Build the targets `[SPEC] [TARGET]...` and return the exit code; `will_run` says whether a
    source has changed, where that is known."""

    def command() -> int:
        spec, targets = split_spec(names)
        return build_asked(Request(spec=spec, targets=targets, will_run=will_run))

    return ended(False, command)
