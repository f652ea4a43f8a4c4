"""Takes a directory into a new store, to be timed: python -I ingest.py DIRECTORY STORE."""

import sys
from pathlib import Path

from store.ingest import ingest_directory
from store.store import Store


def main(directory: str, place: str) -> None:
    """Ingest `directory` and make it durable."""
    with Store(Path(place)) as store:
        ingest_directory(store.cas, store.index, directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
