"""Reading large directories in pieces, from anywhere."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.objects import File
from store.roots import artifact_root
from store.store import Store
from store.trees import build_tree
from tests.fuse.conftest import View

MANY = 20_000


class Dirent(ctypes.Structure):
    """struct dirent of the C library."""

    _fields_ = (
        ("inode", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_ushort),
        ("kind", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long
for function in (libc.readdir, libc.telldir, libc.closedir, libc.rewinddir):
    function.argtypes = (ctypes.c_void_p,)
libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)


def entries(stream: int) -> Iterator[tuple[int, str, int]]:
    """Yield the position of each entry, its name, and the position after it."""
    while True:
        here = libc.telldir(stream)
        entry = libc.readdir(stream)
        if not entry:
            return
        yield here, entry.contents.name.decode(), entry.contents.offset


@pytest.fixture
def large(view: View) -> Path:
    """A mounted directory of 20,000 entries."""
    with Store(view.root) as store:
        file = File(store.cas.put_bytes(b"x"), 1)
        names = {f"{number:05}-{'long' * (number % 7)}": file for number in range(MANY)}
        tree = build_tree(store.cas, names)
        store.index.write([artifact_root("large", "large", tree)])
    view.start()
    return view.mount / "artifacts" / "large"


def test_all_are_listed_once_and_can_be_found_again(large: Path) -> None:
    stream = libc.opendir(os.fsencode(large))
    assert stream
    try:
        listed = list(entries(stream))
        names = [name for _, name, _ in listed]
        assert len(names) == len(set(names)) == MANY + 2
        assert names[:2] == [".", ".."]
        positions = [after for _, _, after in listed]
        assert positions == sorted(set(positions))
        for index in (MANY, 17, 0, 12_345, 1, MANY + 1, 9_999):
            libc.seekdir(stream, listed[index][0])
            assert next(entries(stream))[1] == names[index]
        libc.seekdir(stream, listed[15_000][0])
        assert [name for _, name, _ in entries(stream)] == names[15_000:]
        libc.rewinddir(stream)
        assert [name for _, name, _ in entries(stream)] == names
    finally:
        libc.closedir(stream)


def test_offsets_are_the_same_when_it_is_opened_again(large: Path) -> None:
    runs = []
    for _ in range(2):
        stream = libc.opendir(os.fsencode(large))
        runs.append(list(entries(stream)))
        libc.closedir(stream)
    assert runs[0] == runs[1]
    assert sorted(os.listdir(large)) == sorted(name for _, name, _ in runs[0])[2:]
