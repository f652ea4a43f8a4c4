"""`bn build` with names and a few options: as with the parser of options, but without it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.ahead import Ahead
from engine.cli.asking import open_store, split_spec
from engine.cli.ending import ended

if TYPE_CHECKING:
    from engine.record import Stale


def build_named(
    names: Sequence[str], options: Mapping[str, Any], stale: Stale | None = None
) -> int:
    """Build the targets `[SPEC] [TARGET]...` and return the exit code; `options` are members of the
    request, `stale` is what has changed, where that is known.

    Where something will probably run, a first cell is asked for before the rest is loaded.
    """

    def command() -> int:
        spec, targets = split_spec(names)
        with contextlib.ExitStack() as stack:
            store = ahead = early = None
            if "engine.watch.early" in sys.modules:
                from engine.watch.early import take

                early = take()
            if early is not None:
                store = stack.enter_context(early.store)
            elif stale is not None and stale.will_run:
                store = stack.enter_context(open_store(sweep_later=True))
                ahead = Ahead(store, "sandbox", spec, will_run=True)
                stack.enter_context(ahead.held).enter_context(store.lease("build"))
                stack.callback(ahead.drop)
                ahead.begin()
            from engine.cli.building import build_asked
            from engine.request import Request

            asked = Request(
                spec=spec, targets=targets, stale=stale, ahead=ahead, early=early, **options
            )
            return build_asked(asked, opened=store)

    return ended(False, command)
