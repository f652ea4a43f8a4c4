"""Requests and replies as the kernel sends and gets them, without a kernel."""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuse import wire
from fuse.answers import Answers, Later, RefusedError, error_number
from fuse.inodes import Inodes
from fuse.nodes import ROOT_INODE, DirectoryNode, LinkNode
from fuse.opened import Backings
from fuse.tree_view import view
from fuse.wire import Op, Opened, Request, Wish
from store.objects import File
from store.store import Store
from store.trees import build_tree
from tests.fuse.test_tree_view import Names

ABSENT = 0


class Client:
    """Asks as the kernel does, and counts as it does how often it was told of an inode."""

    def __init__(self, store: Store, **named: str) -> None:
        top: DirectoryNode = view(store.cas, Names(named))  # type: ignore[arg-type]
        self.answers = Answers(top, store.root)

    def ask(self, op: int, inode: int = ROOT_INODE, body: bytes = b"") -> bytes:
        """Send a request and return the payload of its reply."""
        header = wire.HEADER.pack(wire.HEADER.size + len(body), op, 7, inode, 0, 0, 0, 0, 0)
        request = wire.parse(memoryview(header + body))
        assert request.unique == 7
        answer = self.answers.answer(request)
        assert not isinstance(answer, Later)
        return b"" if answer is None else bytes(answer)

    def walk(self, path: str) -> int:
        """Look a path up and return its inode."""
        inode = ROOT_INODE
        for name in path.split("/"):
            (inode,) = struct.unpack_from("=Q", self.ask(Op.LOOKUP, inode, name.encode() + b"\0"))
        return inode

    def listing(self, inode: int, size: int, plus: bool) -> Iterator[tuple[str, int]]:
        """Yield the names and offsets in a directory, read `size` bytes at a time."""
        (handle,) = struct.unpack_from("=Q", self.ask(Op.OPENDIR, inode, bytes(8)))
        offset = 0
        while True:
            body = struct.pack("=QQI20x", handle, offset, size)
            data = self.ask(Op.READDIRPLUS if plus else Op.READDIR, inode, body)
            assert len(data) <= size
            if not data:
                break
            while data:
                data = data[wire.ENTRY_SIZE if plus else 0 :]
                _, offset, length, _ = struct.unpack_from("=QQII", data)
                yield data[24 : 24 + length].decode(), offset
                data = data[(24 + length + 7) // 8 * 8 :]
        self.ask(Op.RELEASEDIR, inode, struct.pack("=QIIQ", handle, 0, 0, 0))


@pytest.fixture
def client(store: Store) -> Client:
    entries = {f"d/{n:03}": File(store.cas.put_bytes(b"%d" % n), len(str(n))) for n in range(100)}
    return Client(store, it=build_tree(store.cas, dict(entries)))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(200, 9000), plus=st.booleans())
def test_reading_a_directory_in_any_pieces(client: Client, size: int, plus: bool) -> None:
    listed = list(client.listing(client.walk("artifacts/it/d"), size, plus))
    assert [name for name, _ in listed] == [".", "..", *(f"{n:03}" for n in range(100))]
    assert [offset for _, offset in listed] == list(range(1, 103))


def test_lookups_are_counted_and_forgotten(client: Client) -> None:
    inodes = client.answers._inodes
    directory = client.walk("artifacts/it/d")
    assert len(inodes) == 4
    assert len(list(client.listing(directory, 1 << 16, plus=False))) == 102
    assert len(inodes) == 4, "plain READDIR tells of no inode"
    for _ in range(2):
        assert len(list(client.listing(directory, 1 << 16, plus=True))) == 102
    assert len(inodes) == 104
    file = client.walk("artifacts/it/d/001")
    client.ask(Op.FORGET, file, struct.pack("=Q", 2))
    assert client.ask(Op.GETATTR, file, bytes(16))
    client.ask(Op.BATCH_FORGET, 0, struct.pack("=II", 1, 0) + struct.pack("=QQ", file, 1))
    with pytest.raises(KeyError) as caught:
        client.ask(Op.GETATTR, file, bytes(16))
    assert error_number(caught.value) == errno.ESTALE
    client.ask(Op.FORGET, ROOT_INODE, struct.pack("=Q", 99))
    assert client.ask(Op.GETATTR, ROOT_INODE, bytes(16))


def opened(client: Client, path: str) -> tuple[int, int, Opened, int]:
    """Open a file and return inode, handle, flags and backing."""
    inode = client.walk(path)
    handle, flags, backing = struct.unpack("=QII", client.ask(Op.OPEN, inode, bytes(8)))
    return inode, handle, Opened(flags), backing


def release(client: Client, inode: int, handle: int) -> None:
    client.ask(Op.RELEASE, inode, struct.pack("=QIIQ", handle, 0, 0, 0))


def test_reading_a_file(client: Client) -> None:
    before = open_descriptors()
    inode, handle, flags, backing = opened(client, "artifacts/it/d/042")
    assert (flags, backing) == (Opened.KEEP_CACHE | Opened.NO_FLUSH, 0)
    assert client.ask(Op.READ, inode, struct.pack("=QQI20x", handle, 0, 4096)) == b"42"
    assert client.ask(Op.READ, inode, struct.pack("=QQI20x", handle, 1, 2 << 20)) == b"2"
    release(client, inode, handle)
    assert open_descriptors() == before
    with pytest.raises(KeyError):
        client.ask(Op.READ, inode, struct.pack("=QQI20x", handle, 0, 4096))


def open_descriptors() -> list[str]:
    """Return the open descriptors of this process, but for the one that lists them."""
    return sorted(os.listdir("/proc/self/fd"))


def test_all_who_open_a_file_share_its_backing(client: Client) -> None:
    handed: list[int] = []
    taken_back: list[int] = []

    def hand(descriptor: int) -> int:
        handed.append(os.fstat(descriptor).st_ino)
        return len(handed)

    client.answers.files.backings = Backings(hand, taken_back.append)
    before = open_descriptors()
    one = opened(client, "artifacts/it/d/042")
    two = opened(client, "artifacts/it/d/042")
    other = opened(client, "artifacts/it/d/043")
    assert [flags for _, _, flags, _ in (one, two)] == [Opened.PASSTHROUGH | Opened.NO_FLUSH] * 2
    assert [backing for *_, backing in (one, two, other)] == [1, 1, 2]
    assert open_descriptors() == before
    release(client, *one[:2])
    assert opened(client, "artifacts/it/d/042")[3] == 1
    assert taken_back == []
    release(client, *two[:2])
    release(client, *other[:2])
    assert taken_back == [2]


@pytest.mark.parametrize(("number", "asked"), [(errno.EPERM, 1), (errno.ELOOP, 2)])
def test_without_backings_the_descriptor_is_kept(client: Client, number: int, asked: int) -> None:
    tries: list[int] = []

    def refuse(descriptor: int) -> int:
        tries.append(descriptor)
        raise OSError(number, "no")

    client.answers.files.backings = Backings(refuse, tries.append)
    for name in ("042", "043"):
        inode, handle, flags, backing = opened(client, f"artifacts/it/d/{name}")
        assert (flags, backing) == (Opened.KEEP_CACHE | Opened.NO_FLUSH, 0)
        read = client.ask(Op.READ, inode, struct.pack("=QQI20x", handle, 0, 4096))
        assert read.decode() == name.lstrip("0")
        release(client, inode, handle)
    assert len(tries) == asked


def test_the_greeting_takes_of_what_is_offered(client: Client) -> None:
    flags = Wish.DO_READDIRPLUS | Wish.INIT_EXT | (1 << 16)
    body = struct.pack("=IIIII44x", 7, 45, 131072, flags, Wish.PASSTHROUGH >> 32)
    reply = client.ask(Op.INIT, 0, body)
    assert len(reply) == 64
    major, minor, read_ahead, flags, *_ = struct.unpack_from("=IIII", reply)
    assert (major, minor, read_ahead) == (7, 40, 131072)
    assert flags == Wish.DO_READDIRPLUS | Wish.INIT_EXT
    assert Wish.PASSTHROUGH in client.answers.agreed
    assert client.ask(Op.INIT, 0, struct.pack("=IIIII44x", 8, 0, 0, 0, 0))[:4] == b"\7\0\0\0"
    with pytest.raises(ValueError, match=r"speaks FUSE 7\.19"):
        client.ask(Op.INIT, 0, struct.pack("=IIII", 7, 19, 131072, 0))


def test_absent_names_are_remembered_only_where_nothing_changes(client: Client) -> None:
    tree = client.walk("artifacts/it")
    inode, _, seconds = struct.unpack_from("=QQQ", client.ask(Op.LOOKUP, tree, b"no\0"))
    assert inode == ABSENT
    assert seconds > 10**6
    assert struct.unpack_from("=Q", client.ask(Op.LOOKUP, tree, b"\xff\0")) == (ABSENT,)
    for place in ("artifacts", "trees", "blobs", "builds"):
        with pytest.raises(RefusedError) as caught:
            client.ask(Op.LOOKUP, client.walk(place), b"no\0")
        assert caught.value.number == errno.ENOENT


@pytest.mark.parametrize(
    ("op", "number"), [(16, errno.EROFS), (9, errno.EROFS), (22, errno.ENOSYS), (999, errno.ENOSYS)]
)
def test_what_is_refused(client: Client, op: int, number: int) -> None:
    with pytest.raises(RefusedError) as caught:
        client.ask(op)
    assert caught.value.number == number
    with pytest.raises(RefusedError):
        client.ask(Op.OPEN, client.walk("artifacts/it/d/001"), struct.pack("=II", os.O_RDWR, 0))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(op=st.integers(0, 60), inode=st.integers(0, 4), body=st.binary(max_size=80))
def test_nonsense_is_an_error_number(client: Client, op: int, inode: int, body: bytes) -> None:
    assert 0 <= refusal(client.answers, Request(op, 1, inode, memoryview(body))) < 200


def refusal(answers: Answers, request: Request) -> int:
    """Return the error number of an answer, 0 if it is none."""
    logging.disable(logging.CRITICAL)
    try:
        answers.answer(request)
    except Exception as error:
        return error_number(error)
    finally:
        logging.disable(logging.NOTSET)
    return 0


def test_numbers_that_collide_are_told_apart() -> None:
    one, other = LinkNode(5, "one"), LinkNode(5, "other")
    inodes = Inodes(LinkNode(1, "root"))
    assert [inodes.tell(node) for node in (one, other, one, other)] == [5, 6, 5, 6]
    assert inodes[6] == other
    inodes.forget([(5, 2), (6, 1)])
    assert inodes[6] == other
    inodes.forget([(6, 1)])
    assert len(inodes) == 1


def test_statfs_is_of_the_store(client: Client, tmp_path: Path) -> None:
    blocks, *_ = struct.unpack_from("=Q", client.ask(Op.STATFS))
    assert blocks == os.statvfs(tmp_path).f_blocks
    assert len(client.ask(Op.STATFS)) == 80
