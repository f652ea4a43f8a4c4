"""Takes a directory into a new store, to be timed: python -I ingest.py DIRECTORY STORE."""

import sys
from pathlib import Path

from store.helpers import Helpers
from store.ingest import ingest_directory
from store.store import Store


def main(directory: str, place: str) -> None:
    """Ingest `directory`, with the helpers of a first build, and make it durable."""
    with Store(Path(place)) as store, Helpers(store.cas):
        ingest_directory(store.cas, store.index, directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
