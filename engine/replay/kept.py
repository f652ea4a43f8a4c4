"""Both outputs of an action that came out otherwise: kept, shown, and compared by diffoscope."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import frozen

from engine.replay.running import Replayed
from store.digest import Digest
from store.index import Table
from store.materialise import materialised
from store.roots import REPLAY, replay_root, roots
from store.store import Store

DIFFOSCOPE_SECONDS: Final = 120.0
"""How long diffoscope may take for one action."""


@frozen
class Kept:
    """Where recorded and replayed outputs lie."""

    before: Path
    after: Path


def keep(store: Store, found: Iterable[Replayed]) -> dict[str, Kept]:
    """Keep both outputs of all that came out otherwise, until the same comes out again or the user
    lets go of the roots (`bn store roots --remove`); return where they lie, by label."""
    kept: dict[str, Kept] = {}
    writes = []
    same: set[str] = set()
    for one in found:
        label, before = one.recorded.label, one.recorded.outputs
        after = one.other.outputs if one.other else None
        if one.same:
            same |= {_key(label, which) for which in ("recorded", "replayed")}
        elif before is not None and after is not None:
            writes += [
                replay_root(label, "recorded", before),
                replay_root(label, "replayed", after),
            ]
            kept[label] = Kept(materialised(store.cas, before), materialised(store.cas, after))
    if writes:
        store.index.write(writes)
    gone = [root.key for root in roots(store.index) if root.key in same] if same else []
    if gone:
        store.index.edit(Table.ROOTS, gone, lambda key, value: None)
    return kept


def diffoscope(kept: Kept) -> str | None:
    """Return what diffoscope says of two outputs; None where it is not installed or says nothing in
    time."""
    program = shutil.which("diffoscope")
    if program is None:
        return None
    try:
        said = subprocess.run(
            [program, "--text", "-", "--exclude-directory-metadata=yes", kept.before, kept.after],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DIFFOSCOPE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout or None


def _key(label: str, which: str) -> str:
    _, key, _ = replay_root(label, which, Digest("0" * 64))
    assert key.startswith(REPLAY)
    return key
