"""Large trees, packed: they say the same as small ones, and nothing but canonical bytes is read."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from store import objects
from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.errors import IntegrityError
from store.objects import PORTION, Directory, Entry, File, Link, Tree
from store.packed_entries import PackedEntries
from store.trees import ConflictError, build_tree, merge, walk

ODD = ["a b", 'quo"te', "back\\slash", "tab\t", "new\nline", "ä", "€", "𝄞", "\x7f", "\x1f", "0"]


def digest(number: int) -> Digest:
    return digest_bytes(str(number).encode())


def entry(number: int) -> Entry:
    match number % 5:
        case 0:
            return Directory(digest(number))
        case 1:
            return Link(f"../{ODD[number % len(ODD)]}/{number}")
        case 2:
            return File(digest(number), number, executable=True)
    return File(digest(number), number << 30)


def some(many: int) -> dict[str, Entry]:
    names = [*ODD, *(f"f{number:06}" for number in range(many - len(ODD)))]
    random.Random(many).shuffle(names)
    return {name: entry(number) for number, name in enumerate(names)}


@pytest.fixture
def all_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "LARGE", 0)


@pytest.mark.parametrize("many", [len(ODD), 100, PORTION, PORTION + 1, 5000])
def test_packed_entries_are_the_same(many: int) -> None:
    plain = some(many)
    packed = PackedEntries.of(plain)
    assert len(packed) == many
    assert packed == plain
    assert Tree(packed) == Tree(plain)
    assert list(packed) == sorted(plain)
    assert list(packed.items()) == sorted(plain.items())
    assert list(packed.values()) == [plain[name] for name in sorted(plain)]
    assert all(packed[name] == one and name in packed for name, one in plain.items())
    assert Tree(packed).encode() == Tree(plain).encode()
    assert "nothing" not in packed
    assert packed.get("nothing") is None
    assert packed.keys() == plain.keys()


@pytest.mark.usefixtures("all_packed")
@pytest.mark.parametrize("many", [len(ODD), 100, PORTION + 1, 5000])
def test_large_trees_are_read_packed(many: int) -> None:
    plain = Tree(some(many))
    data = plain.encode()
    read = Tree.decode(data)
    assert isinstance(read.entries, PackedEntries)
    assert read == plain
    assert read.encode() == data
    assert Tree.decode(Tree().encode()) == Tree()


DIGEST = digest(1)
FILE = f'{{"file":"{DIGEST}","size":1}}'


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    "entries",
    [
        f'"a":{FILE},"a":{FILE}',
        f'"b":{FILE},"a":{FILE}',
        f'"a":{FILE}, "b":{FILE}',
        f'"a":{FILE}"b":{FILE}',
        f',"a":{FILE}',
        f'"a":{FILE},',
        f'"\\u0061":{FILE}',
        f'"\\/":{FILE}',
        f'"a/b":{FILE}',
        f'"..":{FILE}',
        f'"":{FILE}',
        f'"\\u0000":{FILE}',
        f'"\\ud800":{FILE}',
        f'"a":{FILE.replace("1}", "01}")}',
        f'"a":{FILE.replace("1}", "-1}")}',
        f'"a":{FILE.replace("1}", "1.0}")}',
        f'"a":{FILE.replace("1}", "true}")}',
        f'"a":{FILE.upper()}',
        '"a":{"file":"abc","size":1}',
        f'"a":{{"executable":false,{FILE[1:]}',
        f'"a":{{"size":1,"file":"{DIGEST}"}}',
        '"a":{"link":""}',
        '"a":{"link":"\\u0000"}',
        '"a":{"link":"\\u0061"}',
        '"a":{"link":"a","more":1}',
        f'"a":{{"tree":"{DIGEST}","more":1}}',
        '"a":1',
        "1",
    ],
)
def test_what_is_not_canonical_is_no_tree(
    entries: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(objects, "LARGE", 0)
    with pytest.raises((IntegrityError, UnicodeEncodeError)):
        Tree.decode(f'{{"_":"tree.1","entries":{{{entries}}}}}'.encode("utf-8", "surrogatepass"))


@pytest.mark.usefixtures("all_packed")
@pytest.mark.parametrize("name", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_names_are_utf8(name: bytes) -> None:
    assert PackedEntries.parsed(b'"%s":%s' % (name, FILE.encode()), 0, len(FILE) + 99) is None
    with pytest.raises((IntegrityError, UnicodeEncodeError)):
        Tree.decode(b'{"_":"tree.1","entries":{"%s":%s}}' % (name, FILE.encode()))


def test_a_name_is_put_once() -> None:
    packed = PackedEntries()
    first, second = File(digest(1), 1), File(digest(2), 2)
    for number in range(3000):
        assert packed.setdefault(f"{number * 7919 % 3000}", first) is first
    assert all(packed.setdefault(str(number), second) == first for number in range(3000))
    assert len(packed) == 3000
    assert packed.setdefault("d", Directory(digest(3))) == Directory(digest(3))
    packed["d"] = Directory(digest(4))
    assert packed["d"] == Directory(digest(4))
    with pytest.raises(KeyError):
        packed["1"] = Directory(digest(4))
    with pytest.raises(KeyError):
        packed["nothing"] = Directory(digest(4))


@pytest.fixture
def cas(tmp_path: Path) -> Cas:
    made = Cas(tmp_path)
    made.create()
    return made


def merged(cas: Cas, many: int, order: Callable[[list[int]], object]) -> tuple[Digest, Digest]:
    """Return what many trees come to together, and the tree of all that is in them."""
    numbers = list(range(many))
    order(numbers)
    expected: dict[str, Entry] = {}
    trees = []
    for number in numbers:
        data = f"{number}".encode()
        file = File(cas.put_bytes(data), len(data))
        entries: dict[str, Entry] = {f"dir/f{number % 7}": file, f"o{number}": file}
        trees.append(build_tree(cas, entries))
        expected = {**entries, **expected}
    return merge(cas, trees), build_tree(cas, expected)


@pytest.mark.parametrize("order", [list.reverse, random.Random(1).shuffle, len])
def test_many_trees_together_are_packed(cas: Cas, order: Callable[[list[int]], object]) -> None:
    found, expected = merged(cas, PORTION + 50, order)
    assert found == expected
    assert len(list(walk(cas, found))) == PORTION + 57


def test_different_things_at_one_path_are_found_in_large_trees(cas: Cas) -> None:
    one, other = File(cas.put_bytes(b"1"), 1), File(cas.put_bytes(b"2"), 1)
    trees = [build_tree(cas, {f"f{n}": one}) for n in range(PORTION + 10)]
    with pytest.raises(ConflictError, match="f5"):
        merge(cas, [*trees, build_tree(cas, {"f5": other})], strict=True)
    merge(cas, [*trees, trees[5]], strict=True)
