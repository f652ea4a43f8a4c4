"""Tests of sources made real."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.sources.http import Patience
from engine.sources.realise import SourceTree, realise_source
from engine.spec.model import SourceSpec
from store.errors import HostError, InputError, IntegrityError
from store.index import Table
from store.objects import File
from store.store import Store
from store.trees import walk

if TYPE_CHECKING:
    from tests.engine.sources.conftest import Site

HASTY = Patience(attempts=2, backoff=0.01, connect=5, read=5)

BROTLI = SourceSpec(
    pypi="Brotli==1.1.0",
    sha256="81de08ac11bcb85841e440c13611c00b67d3bf82698314928d0b676362546724",
    unpack=True,
    strip=1,
)
LUA = SourceSpec(
    debian="lua5.4=5.4.4",
    sha256="164c7849653b80ae67bec4b7473b884bf5cc8d2dca05653475ec2ed27b9ebf61",
    unpack=True,
    strip=1,
)


def make_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("p-1/a.c", "p-1/doc/x"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return buffer.getvalue()


ARCHIVE = make_archive()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


def names(store: Store, source: SourceTree) -> list[str]:
    return [path for path, _ in walk(store.cas, source.tree)]


async def realise(store: Store, base: Path = Path(), **fields: object) -> SourceTree:
    spec = SourceSpec(**fields)  # type: ignore[arg-type]
    return await realise_source(store, spec, base, patience=HASTY)


async def test_a_directory_without_what_is_excluded(store: Store, tmp_path: Path) -> None:
    for name in ("src/a.c", "src/.git/config", "src/sub/.git/x", "src/x.o", "src/.bn", "src/b/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = await realise(store, tmp_path, path="src", exclude=("**/*.o", "b"))
    assert names(store, found) == [".bn", "a.c", "sub"]
    assert found.snapshot is not None
    assert found.snapshot.first_changed(["a.c"]) is None
    (tmp_path / "src/a.c").write_text("other, and longer")
    assert found.snapshot.first_changed(["a.c"]) == str(tmp_path / "src/a.c")


async def test_a_store_within_the_source_does_not_eat_itself(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("")
    with Store(tmp_path / "build" / "store") as store:
        first = await realise(store, tmp_path, path=".")
        assert names(store, first) == ["a.c", "build"]
        assert (await realise(store, tmp_path, path=".")).tree == first.tree


async def test_a_single_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!")
    (tmp_path / "run.sh").chmod(0o755)
    found = await realise(store, tmp_path, path="run.sh")
    [(name, entry)] = walk(store.cas, found.tree)
    assert name == "run.sh"
    assert isinstance(entry, File)
    assert entry.executable
    assert found.snapshot is not None
    assert found.snapshot.first_changed(["run.sh"]) is None
    (tmp_path / "run.sh").write_text("#!!")
    assert found.snapshot.first_changed(["run.sh"]) == str(tmp_path / "run.sh")


@pytest.mark.parametrize("path", ["missing", "file/below", "link"])
async def test_a_path_that_is_no_source(store: Store, tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(InputError, match=path):
        await realise(store, tmp_path, path=path)


async def test_a_fetched_archive_is_fetched_and_unpacked_once(store: Store, site: Site) -> None:
    url = site.serve("/p-1.tar.gz", ARCHIVE)
    first = await realise(store, url=url, sha256=SHA256.upper(), unpack=True, strip=1)
    assert names(store, first) == ["a.c", "doc/x"]
    assert await realise(store, url=url, sha256=SHA256, unpack=True, strip=1) == first
    other = await realise(store, url=url, sha256=SHA256, unpack=True, exclude=("**/doc",))
    assert names(store, other) == ["p-1/a.c"]
    whole = await realise(store, url=url, sha256=SHA256)
    assert names(store, whole) == ["p-1.tar.gz"]
    assert site.hits["/p-1.tar.gz"] == 1


async def test_what_the_store_lost_is_fetched_again(store: Store, site: Site) -> None:
    url = site.serve("/p", ARCHIVE)
    first = await realise(store, url=url, sha256=SHA256)
    digest, _ = store.index.get_json(Table.ALIASES, SHA256)
    store.cas.quarantine(digest, False)
    assert await realise(store, url=url, sha256=SHA256) == first
    assert site.hits["/p"] == 2


async def test_a_wrong_digest_shows_both_and_what_to_paste(store: Store, site: Site) -> None:
    wanted = "0" * 64
    with pytest.raises(IntegrityError) as caught:
        await realise(store, url=site.serve("/p", ARCHIVE), sha256=wanted)
    assert f"expected sha256 {wanted}" in caught.value.message
    assert f"got      sha256 {SHA256}" in caught.value.message
    assert f'sha256 = "{SHA256}"' in caught.value.hint
    assert store.cas.unfinished() == []
    assert store.index.get(Table.ALIASES, wanted) is None


async def test_a_missing_digest_is_told(store: Store, site: Site) -> None:
    url = site.serve("/p", ARCHIVE)
    with pytest.raises(InputError) as caught:
        await realise(store, url=url)
    assert f'sha256 = "{SHA256}"' in caught.value.hint
    await realise(store, url=url, sha256=SHA256)
    assert site.hits["/p"] == 1


async def test_failures_leave_nothing(store: Store, site: Site) -> None:
    with pytest.raises(InputError, match="404"):
        await realise(store, url=f"{site.url}/missing", sha256=SHA256)
    site.routes["/p"] = lambda handler: handler.send_error(500)
    with pytest.raises(HostError, match="500"):
        await realise(store, url=f"{site.url}/p", sha256=SHA256)
    assert store.cas.unfinished() == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"git": "x"}, "not supported yet"),
        ({"npm": "x"}, "not supported yet"),
        ({"pypi": "Brotli>=1"}, "NAME==VERSION"),
        ({"debian": "lua5.4"}, "SOURCE=UPSTREAM_VERSION"),
        ({"url": "http://127.0.0.1/", "sha256": "beef"}, "64 hexadecimal digits"),
    ],
)
async def test_malformed_sources(store: Store, fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        await realise_source(store, SourceSpec(**fields), Path())  # type: ignore[arg-type]


async def test_brotli_from_this_machines_package_index(store: Store) -> None:
    found = await realise_source(store, BROTLI, Path())
    assert "c/enc/encode.c" in names(store, found)


async def test_lua_from_this_machines_debian_mirror(store: Store) -> None:
    found = await realise_source(store, LUA, Path())
    assert "src/lua.c" in names(store, found)
