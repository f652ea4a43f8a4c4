"""Tests of archives: the same bytes every time, and nothing but whole ones come in."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from store.archive import Contents, closure_of, export
from store.cas import MissingBlob
from store.digest import Digest
from store.encoding import encode
from store.entries import Put
from store.errors import InputError, IntegrityError
from store.index import Table
from store.refused import refuse
from store.roots import roots
from store.store import Store
from store.unarchive import import_
from store.verify import verify
from tests.store.results import Made, blobs, is_whole, lose, make, nested, one_file


@pytest.fixture
def made(store: Store) -> Made:
    made = make(store, "made", size=300_000, observed=True)
    make(store, "other")
    store.actions.commit()
    return made


@pytest.fixture
def archive(store: Store, made: Made, tmp_path: Path) -> Path:
    contents = closure_of(store, {"app": made.result.outputs}, [made.digest])
    export(store, contents, tmp_path / "app.bn")
    return tmp_path / "app.bn"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """The store of another machine."""
    with Store(tmp_path / "other") as opened:
        yield opened


def test_what_was_exported_is_there_and_cached_after_import(
    made: Made, archive: Path, other: Store
) -> None:
    contents = import_(other, archive)
    assert dict(contents.roots) == {"app": made.result.outputs}
    assert [(root.key, root.tree) for root in roots(other.index)] == [
        ("import/app", made.result.outputs)
    ]
    assert is_whole(other, made)
    assert other.actions.realisation(made.recipe)
    assert dict(other.index.items(Table.OBSERVED))
    assert len(dict(other.index.items(Table.ACTION_CACHE))) == 2
    assert verify(other).problems == ()
    assert other.cas.unfinished() == []
    assert import_(other, archive) == contents


def test_what_is_refused_does_not_come_back_with_an_archive(
    made: Made, archive: Path, other: Store
) -> None:
    refuse(other.root, [made.result.digest()], "bad")
    import_(other, archive)
    assert dict(other.index.items(Table.ACTION_CACHE)) == {}
    assert other.actions.result_of(made.digest) is None


def test_same_bytes_every_time_and_from_another_store(
    made: Made, archive: Path, other: Store, tmp_path: Path
) -> None:
    import_(other, archive)
    again = closure_of(other, {"app": made.result.outputs}, [made.digest])
    export(other, again, tmp_path / "again.bn")
    assert (tmp_path / "again.bn").read_bytes() == archive.read_bytes()


def test_without_actions_only_the_closure_goes(store: Store, made: Made) -> None:
    tree = nested(store, one_file(store, "f", b"content"))
    contents = closure_of(store, {"t": tree})
    assert len(contents.blobs) == 3
    assert not contents.actions
    assert list(closure_of(store, {"a": made.result.outputs}, all_=True).realisations) == [
        made.recipe
    ]


def test_ordinary_tools_read_it(archive: Path, made: Made) -> None:
    with zstandard.open(archive, "rb") as file:
        data = io.BytesIO(file.read())
    with tarfile.open(fileobj=data) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names[0] == "closure.json"
    assert names[1:] == sorted(names[1:])
    assert f"blobs/{made.result.outputs}" in names
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {
        (315532800, 0, 0, "", 0o444)
    }


def test_blob_that_is_gone_is_said(store: Store, made: Made) -> None:
    lose(store, made.result.outputs)
    with pytest.raises(MissingBlob):
        closure_of(store, {"app": made.result.outputs})


Change = Callable[[bytes], bytes]


def repacked(change: Change) -> Change:
    """Change what is inside."""

    def whole(data: bytes) -> bytes:
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        return zstandard.ZstdCompressor().compress(change(plain))

    return whole


def replaced(old: bytes, new: bytes) -> Change:
    return repacked(lambda data: data.replace(old, new))


BROKEN: dict[str, Change] = {
    "nothing": lambda data: b"",
    "cut by one byte": lambda data: data[:-1],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "a byte behind": lambda data: data + b"\0",
    "twice": lambda data: data + data,
    "no zstd": lambda data: b"hello" * 1000,
    "flipped": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "no tar": repacked(lambda data: b"hello" * 1000),
    "another blob": replaced(b"made....", b"evil...."),
    "another name": replaced(b"blobs/", b"../..//"[:6]),
    "another mode": replaced(b"0000444", b"0004777"),
    "no list": repacked(lambda data: data[1024:]),
    "a member more": repacked(lambda data: data[:-1024] + data[:512] + data[-1024:]),
    "no end": repacked(lambda data: data[:-512]),
    "more behind": repacked(lambda data: data + b"\0" * 512),
    "padding": repacked(lambda data: data[:-1025] + b"x" + data[-1024:]),
}


@pytest.mark.parametrize("how", BROKEN)
def test_anything_else_is_refused_and_nothing_stays(archive: Path, other: Store, how: str) -> None:
    archive.write_bytes(BROKEN[how](archive.read_bytes()))
    with pytest.raises(IntegrityError, match="not imported"):
        import_(other, archive)
    assert not blobs(other)
    assert other.cas.unfinished() == []
    assert not dict(other.index.items(Table.ROOTS))
    assert not dict(other.index.items(Table.ACTION_CACHE))


def forged(store: Store, target: Path, contents: Contents) -> Path:
    """Write an archive with a list of contents that lies."""
    export(store, contents, target)
    return target


def test_list_that_lies_is_refused(store: Store, made: Made, other: Store, tmp_path: Path) -> None:
    from attrs import evolve

    whole = closure_of(store, {"app": made.result.outputs}, [made.digest])
    fewer = {key: size for key, size in whole.blobs.items() if key != made.result.log}
    lies = {
        "a blob is missing": evolve(whole, blobs=fewer),
        "a root that is no tree": evolve(whole, roots={"app": made.result.log}),
        "a root that is not there": evolve(whole, roots={"app": Digest("0" * 64)}),
        "a result that is none": evolve(whole, actions={made.digest: made.result.log}),
        "a key that is none": evolve(whole, actions={"../x": next(iter(whole.actions.values()))}),
        "a realisation that is none": evolve(whole, realisations={made.recipe: made.result.log}),
        "a long name": evolve(whole, roots={"x" * 600: made.result.outputs}),
        "odd rows": evolve(whole, observed={made.digest: [["x", "y"]]}),
    }
    for what, contents in lies.items():
        with pytest.raises(IntegrityError, match="not imported"):
            import_(other, forged(store, tmp_path / "lie.bn", contents))
        assert not blobs(other), what
        assert not dict(other.index.items(Table.ROOTS)), what


def test_file_that_is_not_there_is_an_input_error(other: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        import_(other, tmp_path / "nowhere")


def test_export_that_fails_leaves_no_file(store: Store, made: Made, tmp_path: Path) -> None:
    contents = closure_of(store, {"app": made.result.outputs})
    lose(store, made.result.outputs)
    (tmp_path / "out").mkdir()
    with pytest.raises(MissingBlob):
        export(store, contents, tmp_path / "out/app.bn")
    assert not list((tmp_path / "out").iterdir())


def test_name_spaces_go_along(tmp_path: Path) -> None:
    with Store(tmp_path / "a") as store, Store(tmp_path / "b") as other:
        blobs = {name: name.encode() * (size + 1) for size, name in enumerate("xyz")}
        digests = {name: store.cas.put_bytes(data) for name, data in blobs.items()}
        store.entries().put(
            [Put("team", "turbo", n, d, len(blobs[n]), {"n": n}) for n, d in digests.items()]
            + [Put("else", "turbo", "x", digests["x"], 1)]
        )
        contents = closure_of(store, {}, name_spaces=["team"])
        export(store, contents, tmp_path / "file")
        again = closure_of(store, {}, name_spaces=["team"])
        assert again.encode() == contents.encode()
        assert Contents.decode(contents.encode()) == contents
        with pytest.raises(InputError, match="no such name space"):
            closure_of(store, {}, name_spaces=["nobody"])
        import_(other, tmp_path / "file")
        assert set(other.entries().name_spaces()) == {"team"}
        for name, data in blobs.items():
            row = other.entries().find("team", "turbo", name)
            assert row is not None
            assert (row.digest, row.size, row.meta) == (digests[name], len(data), {"n": name})
            assert other.cas.get_bytes(row.digest) == data
        assert verify(other).problems == ()


@pytest.mark.parametrize(
    "cached",
    [
        [],
        {"team": []},
        {"team": {"kind": {"key": ["0" * 64, 1, {}]}}},
        {"": {"kind": {"key": ["1" * 64, 1, {}]}}},
        {"team": {"kind": {"k" * 5000: ["1" * 64, 1, {}]}}},
        {"team": {"kind": {"key": ["1" * 64, 2, {}]}}},
        {"team": {"kind": {"key": ["1" * 64, 1, {"a": 1}]}}},
        {"team": {"kind": {"key": ["1" * 64, 1]}}},
    ],
)
def test_malformed_entries_are_refused(cached: Any) -> None:
    good = {"team": {"kind": {"key": ["1" * 64, 1, {}]}}}
    blobs = {Digest("1" * 64): 1}
    text = Contents(roots={}, blobs=blobs, cached=good).encode().decode()
    assert Contents.decode(text.encode()).cached == good
    bad = text.replace(json.dumps(good, separators=(",", ":")), encode(cached).decode())
    assert bad != text
    with pytest.raises(IntegrityError, match="malformed"):
        Contents.decode(bad.encode())
