"""What a watcher knows of the files that the last build saw, for the evaluation of the next one.

A vigil that is set up knows which of a record's files are not as they were. All others look as the
record says, up to the moment of the answer, as if somebody had looked at them then.
"""

from __future__ import annotations

import os
import sys
from array import array

from engine import __version__
from engine.record import Record, Stale, record_path
from engine.watch.ask import SECONDS, talk, view


def told(store: str) -> Stale | None:
    """Return what the store's watcher knows of the record of this process's command; None where
    there is no watcher, or it does not know."""
    if sys.argv[1:2] != ["build"] or not os.path.lexists(f"{store}/watch/socket"):
        return None
    try:
        path = record_path(store, [__version__, *sys.argv[2:]])
        with open(path, "rb", buffering=0) as file:
            record = Record(file.readall())
        question = b"d" + record.identity + f"{os.path.basename(path)}\0{view()}".encode()
        reply = talk(store, question, SECONDS)
        if reply[:1] != b"=":
            return None
        return Stale(record, *record.body(lambda: b""), array("I", reply[1:]))
    except (OSError, ValueError):
        return None
