"""Tests of cache entries: rows, their order of use, counters, references, damage."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.entries import Entries, Put, Row, Usage, Vanished
from store.entry_mending import mend, opened
from store.entry_rows import KEY_KEPT, LONGEST_KEY
from store.errors import HostError, IntegrityError
from store.rebuild import rebuild
from store.store import Store


def digest(text: str) -> Digest:
    return digest_bytes(text.encode())


def put(name_space: str, key: str, text: str, size: int = 100, kind: str = "generic") -> Put:
    return Put(name_space, kind, key, digest(text), size)


def keys(entries: Entries, name_space: str, kind: str = "generic", prefix: str = "") -> list[str]:
    return [key for key, _ in entries.each(name_space, kind, prefix)]


@pytest.fixture
def entries(tmp_path: Path) -> Iterator[Entries]:
    opened = Entries(tmp_path)
    yield opened
    opened.close()


def test_row_is_found_as_it_was_put(entries: Entries, tmp_path: Path) -> None:
    meta = {"content-type": "text/plain", "tag": "ä"}
    rows, gone = entries.put([Put("team", "turbo", "k", digest("a"), 7, meta)])
    found = entries.find("team", "turbo", "k")
    assert gone == {}
    assert found == rows[0]
    assert found is not None
    assert (found.digest, found.size, found.meta) == (digest("a"), 7, meta)
    assert abs(found.stored - time.time()) < 60
    entries.close()
    again = Entries(tmp_path)
    assert again.find("team", "turbo", "k") == found
    again.close()


def test_name_spaces_and_kinds_are_apart(entries: Entries) -> None:
    entries.put([put("a", "k", "x"), put("ab", "k", "y")])
    assert entries.find("a", "other", "k") is None
    assert entries.find("b", "generic", "k") is None
    assert keys(entries, "a") == ["k"]
    assert entries.name_spaces() == {"a": Usage(1, 100), "ab": Usage(1, 100)}
    with pytest.raises(ValueError, match="name space"):
        entries.find("a\0generic", "k", "")
    with pytest.raises(ValueError, match="name space"):
        entries.put([put("x" * 65, "k", "x")])
    assert entries.find("a", "generic", "") is None


def test_overwriting_counts_once(entries: Entries) -> None:
    entries.put([put("a", "k", "x", 10)])
    entries.put([put("a", "k", "y", 30)])
    assert entries.usage("a") == Usage(1, 30)
    assert entries.is_named(digest("y"))
    assert not entries.is_named(digest("x"))
    assert list(entries.orphans()) == [digest("x")]
    entries.put([put("a", "k", "x", 10), put("a", "l", "y", 30)])
    assert list(entries.orphans()) == []


def test_blob_is_an_orphan_when_its_last_row_went(entries: Entries) -> None:
    rows, _ = entries.put([put("a", "k", "x"), put("b", "k", "x")])
    assert entries.remove(rows[:1]) == Usage(1, 100)
    assert list(entries.orphans()) == []
    assert entries.remove(rows) == Usage(1, 100)
    assert list(entries.orphans()) == [digest("x")]
    assert entries.name_spaces() == {}
    assert entries.reap([digest("x"), digest("y")], set) == 0
    assert list(entries.orphans()) == []


def test_row_that_changed_meanwhile_is_not_removed(entries: Entries) -> None:
    (old,), _ = entries.put([put("a", "k", "x")])
    entries.put([put("a", "k", "y")])
    assert entries.remove([old]) == Usage()
    assert entries.find("a", "generic", "k")


def test_long_keys_are_kept_whole(entries: Entries) -> None:
    start = "/" + "ü" * (KEY_KEPT // 2)
    long = [f"{start}{'x' * 900}{number}" for number in range(3)]
    entries.put([put("a", key, key) for key in long])
    entries.put([put("a", "\udcff", "odd")])
    assert sorted(keys(entries, "a")) == sorted([*long, "\udcff"])
    assert keys(entries, "a", prefix=start + "xx") != []
    assert keys(entries, "a", prefix=long[1]) == [long[1]]
    found = entries.find("a", "generic", long[2])
    assert found is not None
    assert found.digest == digest(long[2])
    with pytest.raises(ValueError, match="longer"):
        entries.put([put("a", "x" * (LONGEST_KEY + 1), "x")])
    with pytest.raises(ValueError, match="facts"):
        entries.put([Put("a", "b", "c", digest("x"), 1, {"x": "y" * 5000})])


def test_rows_under_keys(entries: Entries) -> None:
    entries.put([put("a", key, key) for key in ("k", "k-1", "k/1", "k/2/x", "k0", "l", "m/1")])
    found = entries.find_under("a", "generic", ["k", "m", "n"])
    assert {key: sorted(rows) for key, rows in found.items()} == {
        "k": ["k", "k/1", "k/2/x"],
        "m": ["m/1"],
    }


def test_many_are_listed_in_order(entries: Entries) -> None:
    entries.put([put("a", f"{number:05}", f"{number % 7}", 1) for number in range(3000)])
    assert keys(entries, "a") == [f"{number:05}" for number in range(3000)]
    assert len(list(entries.all())) == 3000
    assert len(entries.find_many("a", "generic", ["00001", "02999", "x"])) == 2
    assert entries.usage("a") == Usage(3000, 3000)


def test_a_clock_that_is_set_back_changes_no_order(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    entries.put([put("s", name, name) for name in "abcdef"])
    for back, name in ((0.2, "a"), (0.4, "b")):
        monkeypatch.setattr("time.time", lambda back=back: now - back)
        entries.find("s", "generic", name)
    entries.put([put("s", "g", "g")])
    assert entries.evict("s", 300) == Usage(4, 400)
    assert keys(entries, "s") == ["a", "b", "g"]


def test_what_was_used_longest_ago_goes_first(entries: Entries) -> None:
    for name in "abcdef":
        entries.put([put("s", name, name)])
    entries.find("s", "generic", "a")
    entries.find_many("s", "generic", ["b"])
    assert entries.evict("s", 300) == Usage(3, 300)
    assert keys(entries, "s") == ["a", "b", "f"]
    assert entries.usage("s") == Usage(3, 300)
    assert entries.evict("s", 150) == Usage(2, 200)
    assert keys(entries, "s") == ["b"]


def test_use_in_another_process_counts(entries: Entries, tmp_path: Path) -> None:
    for name in "abc":
        entries.put([put("s", name, name)])
    code = (
        "import sys; from pathlib import Path; from store.entries import Entries;"
        "Entries(Path(sys.argv[1])).find('s', 'generic', 'a')"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path], check=True, cwd=Path(__file__).parents[2]
    )
    entries.evict("s", 200)
    assert keys(entries, "s") == ["a", "c"]


def test_quota_holds_with_every_transaction(entries: Entries) -> None:
    quotas = {"small": 1000, "*": 10_000}
    for number in range(0, 100, 5):
        batch = [put("small", f"{number + more}", f"{number + more}", 90) for more in range(5)]
        entries.put(batch, quotas)
        assert entries.usage("small").bytes <= 1000
        assert entries.find("small", "generic", f"{number + 4}")
    entries.put([put("small", "whole", "whole", 1000)], quotas)
    assert keys(entries, "small") == ["whole"]
    _, gone = entries.put([put("small", f"{n}", f"{n}", 500) for n in range(50)], quotas)
    assert gone["small"].entries == 50
    assert keys(entries, "small") == ["49"]
    entries.put([put("other", f"{n}", f"{n}", 500) for n in range(50)], quotas)
    assert entries.usage("other").bytes <= 10_000


def test_blob_that_is_not_there_is_not_named(entries: Entries) -> None:
    entries.put([put("a", "k", "there")])
    with pytest.raises(Vanished) as caught:
        entries.put([put("a", "l", "there"), put("a", "m", "gone")], None, lambda _: False)
    assert caught.value.digests == {digest("gone")}
    assert keys(entries, "a") == ["k"]


def test_what_was_not_used_for_long_expires(entries: Entries) -> None:
    entries.put([put("a", "old", "x"), put("a", "used", "y")])
    later = time.time()
    time.sleep(0.01)
    entries.find("a", "generic", "used")
    assert entries.expire(later) == Usage(1, 100)
    assert keys(entries, "a") == ["used"]


def test_damaged_row_is_none(entries: Entries, tmp_path: Path) -> None:
    entries.put([put("a", "key-to-damage", "x"), put("a", "l", "y")])
    entries.close()
    file = tmp_path / "entries" / "data.mdb"
    data = bytearray(file.read_bytes())
    at = data.find(bytes.fromhex(digest("x")))
    while at >= 0:
        data[at + 5] ^= 1
        at = data.find(bytes.fromhex(digest("x")), at + 32)
    file.write_bytes(data)
    os.utime(file, ns=(315532800 * 10**9,) * 2)
    again = Entries(tmp_path)
    assert again.find("a", "generic", "key-to-damage") is None
    assert again.find("a", "generic", "l")
    assert keys(again, "a") == ["l"]
    again.close()


def test_good_rows_of_damaged_tables_are_saved(tmp_path: Path) -> None:
    entries = Entries(tmp_path)
    for number in range(200):
        entries.put([Put("a", "generic", f"k{number}", digest(f"{number}"), 5, {"n": f"{number}"})])
    entries.put([put("a", "k7", "newer", 6)])
    entries.close()
    assert mend(tmp_path) is None
    file = tmp_path / "entries" / "data.mdb"
    data = bytearray(file.read_bytes())
    data[:8192] = bytes(8192)
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="cache entries"):
        Entries(tmp_path)
    again = opened(tmp_path)
    assert len(keys(again, "a")) == 200
    assert again.usage("a") == Usage(200, 1001)
    found = again.find("a", "generic", "k7")
    assert found is not None
    assert (found.digest, found.meta) == (digest("newer"), {})
    again.close()
    assert mend(tmp_path / "nothing") is None


def test_tables_that_others_use_are_not_mended(
    tmp_path: Path, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise IntegrityError("damaged")

    monkeypatch.setattr("store.entry_mending.check", fail)
    monkeypatch.setattr("store.entry_mending.PATIENCE", 0.1)
    with pytest.raises(HostError, match="another process uses it"):
        mend(tmp_path)
    entries.close()
    assert mend(tmp_path) == 0
    assert mend(tmp_path / "nothing") is None


_OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove", "evict", "use"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 5),
        st.integers(0, 4),
    ),
    max_size=40,
)


@given(operations=_OPERATIONS)
def test_counters_and_references_are_always_right(
    operations: list[tuple[str, str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries = Entries(tmp_path_factory.mktemp("entries"))
    model: dict[tuple[str, str], Row] = {}
    order: list[tuple[str, str]] = []
    for what, space, number, value in operations:
        name = (space, f"{number}")
        if what == "put":
            (row,), _ = entries.put([put(*name, f"{value}", value)])
            model[name] = row
            order = [one for one in order if one != name] + [name]
        elif what == "use" and name in model:
            assert entries.find(space, "generic", name[1]) == model[name]
            order = [one for one in order if one != name] + [name]
        elif what == "remove" and name in model:
            entries.remove([model.pop(name)])
            order.remove(name)
        elif what == "evict":
            entries.evict(space, number * 2)
            while sum(row.size for (of, _), row in model.items() if of == space) > number * 2:
                oldest = next(one for one in order if one[0] == space)
                model.pop(oldest)
                order.remove(oldest)
        time.sleep(0.00002)  # so that two uses have different times
    there = {(space, key): row for space, _, key, row in entries.all()}
    assert there == model
    for space in "ab":
        sizes = [row.size for (of, _), row in model.items() if of == space]
        assert entries.usage(space) == Usage(len(sizes), sum(sizes))
    named = {row.digest for row in model.values()}
    every = {digest(f"{value}") for value in range(5)}
    assert {one for one in every if entries.is_named(one)} == named
    assert not named.intersection(entries.orphans())
    entries.close()


def test_index_is_not_made_again_under_a_server(store: Store) -> None:
    store.entries()
    cas = Cas(store.root)
    with pytest.raises(HostError, match="cache server"):
        rebuild(store.root, cas)
