"""What a watcher knows of the files that the last build saw, for the evaluation of the next one.

A vigil that is set up knows which of a record's files are not as they were. All others look as the
record says, up to the moment of the answer, as if somebody had looked at them then.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine import __version__
from engine.record import Record, record_path
from engine.watch.ask import SECONDS, talk, view

if TYPE_CHECKING:
    from store.ingest import Signature


def told(store: str) -> Mapping[str, Signature]:
    """Return the signatures of files, by absolute path, of which the store's watcher says how they
    look now; nothing where there is none, or it does not know."""
    if sys.argv[1:2] != ["build"] or not os.path.lexists(f"{store}/watch/socket"):
        return {}
    try:
        path = record_path(store, [__version__, *sys.argv[2:]])
        with open(path, "rb", buffering=0) as file:
            record = Record(file.readall())
        question = b"d" + record.identity + f"{os.path.basename(path)}\0{view()}".encode()
        reply = talk(store, question, SECONDS)
        if reply[:1] != b"=":
            return {}
        names, marks = record.body(lambda: b"")
        return record.signatures(names, marks, array("I", reply[1:]))
    except (OSError, ValueError, IndexError):
        return {}
