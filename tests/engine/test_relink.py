"""The link to a result, made again where only the link is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.delivery import link_result
from engine.record import read_record, write_record
from store.cas import empty_tree
from store.roots import roots
from store.store import Store


@pytest.fixture
def linked(store: Store, tmp_path: Path) -> tuple[Path, Path]:
    """The path of a link to a result, and that of a record which tells of it; its store is shut."""
    link, record = tmp_path / "result", store.root / "records" / "record"
    shown = link_result(store, empty_tree(store.cas), link)
    write_record(record, {}, {str(link): str(shown)}, "", "")
    store.close()
    return link, record


def _shown(link: Path) -> str:
    return str(link.readlink())


def test_a_link_that_is_gone_is_made_again(linked: tuple[Path, Path]) -> None:
    link, record = linked
    target = _shown(link)
    link.unlink()
    assert read_record(record)
    assert _shown(link) == target
    assert [path.name for path in link.parent.iterdir() if "result" in path.name] == ["result"]


def test_a_link_made_again_is_a_root(linked: tuple[Path, Path]) -> None:
    """Also where it had led to another result and the index says that it does."""
    link, record = linked
    target = Path(_shown(link))
    with Store(record.parent.parent) as store:
        other = store.cas.put_bytes(b"no tree, but a digest")
        link.unlink()
        link.symlink_to(f"{target.parent}/{other}")
    assert read_record(record)
    with Store(record.parent.parent) as store:
        assert [(r.name, r.tree, r.live) for r in roots(store.index)] == [
            (str(link), target.name, True)
        ]


def test_what_is_in_the_way_is_left_to_the_build(linked: tuple[Path, Path]) -> None:
    link, record = linked
    link.unlink()
    link.write_text("of the user")
    assert read_record(record) is None
    assert link.read_text() == "of the user"


def test_a_tree_that_was_collected_is_left_to_the_build(linked: tuple[Path, Path]) -> None:
    link, record = linked
    Path(_shown(link)).rmdir()
    for _ in range(2):
        assert read_record(record) is None
        link.unlink(missing_ok=True)
    assert not link.is_symlink()
