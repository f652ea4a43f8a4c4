"""Tests of unpacking."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from engine.sources import archive
from engine.sources.archive import unpack
from engine.sources.exclusion import exclusion
from store.digest import Digest, digest_bytes
from store.errors import InputError, IntegrityError
from store.objects import Directory, Entry, File, Link
from store.store import Store
from store.trees import walk

Spec = tuple[str, bytes | tarfile.TarInfo]


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> Spec:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return name, info


def make_tar(
    members: list[Spec], mode: str = "w:gz", form: int = tarfile.PAX_FORMAT, bits: int = 0o644
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as tar:  # type: ignore[call-overload]
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), bits
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpacked(store: Store, data: bytes, strip: int = 0, *exclude: str) -> dict[str, Entry]:
    file = File(store.cas.put_bytes(data), len(data))
    return dict(walk(store.cas, unpack(store.cas, file, "a.tar", strip, exclusion(exclude))))


def text(store: Store, found: dict[str, Entry], path: str) -> bytes:
    file = found[path]
    assert isinstance(file, File)
    return store.cas.get_bytes(file.digest)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_every_tar_form_gives_the_same_tree(store: Store, mode: str, form: int) -> None:
    long = "p/" + "d" * 120 + "/" + "n" * 150
    found = unpacked(store, make_tar([("p/a", b"A"), (long, b"L"), ("p/é", b"U")], mode, form), 1)
    assert {path: text(store, found, path) for path in found} == {
        "a": b"A",
        long[2:]: b"L",
        "é": b"U",
    }


def test_kinds_of_members(store: Store) -> None:
    data = make_tar(
        [
            ("./p/bin/run", b"#!"),
            entry("p/hard", tarfile.LNKTYPE, "./p/bin/run"),
            entry("p/soft", tarfile.SYMTYPE, "bin/run"),
            entry("p/empty", tarfile.DIRTYPE, mode=0o755),
            ("p/twice", b"1"),
            ("p/twice", b"2"),
        ],
        bits=0o755,
    )
    found = unpacked(store, data, 1)
    assert sorted(found) == ["bin/run", "empty", "hard", "soft", "twice"]
    assert found["bin/run"] == found["hard"] == File(digest_bytes(b"#!"), 2, True)
    assert found["soft"] == Link("bin/run")
    assert isinstance(found["empty"], Directory)
    assert text(store, found, "twice") == b"2"


def test_strip_and_exclude(store: Store) -> None:
    data = make_tar(
        [
            ("top", b""),
            ("p/a.c", b"a"),
            ("p/doc/x", b"x"),
            ("p/sub/.hid.o", b""),
            entry("p/hard", tarfile.LNKTYPE, "p/doc/x"),
        ]
    )
    found = unpacked(store, data, 1, "doc", "**/*.o")
    assert sorted(found) == ["a.c", "hard"]
    assert text(store, found, "hard") == b"x"
    with pytest.raises(InputError, match="strip = 9"):
        unpacked(store, data, 9)


def test_large_members_are_not_held_in_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_IN_MEMORY", 1000)
    content = bytes(range(256)) * 100
    found = unpacked(store, make_tar([("big", content)]))
    assert found["big"] == File(digest_bytes(content), len(content))
    assert store.cas.unfinished() == []


@pytest.mark.parametrize(
    "member",
    [
        entry("/etc/passwd"),
        entry("p/../../x"),
        entry("p/dev", tarfile.CHRTYPE),
        entry("p/pipe", tarfile.FIFOTYPE),
        entry("p/out", tarfile.SYMTYPE, "../../x"),
        entry("p/abs", tarfile.SYMTYPE, "/etc/passwd"),
    ],
    ids=lambda member: member[0],
)
def test_what_could_leave_the_tree_is_refused_by_name(store: Store, member: Spec) -> None:
    with pytest.raises(InputError, match=member[0]):
        unpacked(store, make_tar([("p/a", b""), member]), 1)


def test_a_file_below_a_link_is_refused(store: Store) -> None:
    data = make_tar([entry("a", tarfile.SYMTYPE, "b"), ("a/x", b"")])
    with pytest.raises(InputError, match="a/x"):
        unpacked(store, data)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("part", [0.3, 0.7])
def test_a_truncated_archive_fails_its_integrity(store: Store, mode: str, part: float) -> None:
    noise = b"".join(digest_bytes(bytes([n])).encode() for n in range(200))
    data = make_tar([(f"f{n}", noise) for n in range(9)], mode)
    with pytest.raises(IntegrityError, match="truncated"):
        unpacked(store, data[: int(len(data) * part)])


def test_a_damaged_header_is_not_the_end(store: Store) -> None:
    data = bytearray(make_tar([("a", b"1" * 512), ("b", b"2")], "w", tarfile.USTAR_FORMAT))
    data[1024 + 5] ^= 0xFF
    with pytest.raises(IntegrityError, match="corrupt"):
        unpacked(store, bytes(data))


def test_no_archive_at_all(store: Store) -> None:
    with pytest.raises(InputError, match="no archive"):
        unpacked(store, b"hello " * 200)


def test_bombs_are_refused_before_they_go_off(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 5000)
    with pytest.raises(InputError, match="more than bn accepts"):
        unpacked(store, make_tar([("a", bytes(4000)), ("b", bytes(4000))]))
    monkeypatch.setattr(archive, "MOST_MEMBERS", 3)
    with pytest.raises(InputError, match="more than bn accepts"):
        unpacked(store, make_tar([(f"f{n}", b"") for n in range(4)]))


def make_zip(members: list[tuple[str, bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def test_zip(store: Store) -> None:
    members = [
        ("p/", b"", 0o040755),
        ("p/run", b"#!", 0o100755),
        ("p/plain", b"x" * 999, 0),
        ("p/soft", b"run", 0o120777),
    ]
    found = unpacked(store, make_zip(members), 1)
    assert found == {
        "plain": File(digest_bytes(b"x" * 999), 999),
        "run": File(digest_bytes(b"#!"), 2, True),
        "soft": Link("run"),
    }
    with pytest.raises(InputError, match="leaves the tree"):
        unpacked(store, make_zip([("a", b"../x", 0o120777)]))
    with pytest.raises(InputError, match="device"):
        unpacked(store, make_zip([("a", b"", 0o020666)]))


def test_damaged_zip(store: Store) -> None:
    data = bytearray(make_zip([("name", b"hello world, hello world", 0o100644)]))
    with pytest.raises(IntegrityError):
        unpacked(store, bytes(data[:-10]))
    data[40] ^= 0xFF
    with pytest.raises(IntegrityError):
        unpacked(store, bytes(data))


def test_the_tree_does_not_depend_on_order(store: Store, tmp_path: Path) -> None:
    members: list[Spec] = [("p/a", b"1"), ("p/b/c", b"2"), entry("p/b", tarfile.DIRTYPE)]
    trees: set[Digest] = set()
    for order in (members, members[::-1]):
        data = make_tar(order)
        file = File(store.cas.put_bytes(data), len(data))
        trees.add(unpack(store.cas, file, "a"))
    assert len(trees) == 1
