"""Tests of files and directories named one by one as a toolchain."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.spec.model import ToolchainSpec
from engine.toolchains.importer import Toolchain, import_toolchain
from store.errors import InputError
from store.objects import Entry, File, Link
from store.store import Store
from store.trees import walk


@pytest.fixture
def sdk(tmp_path: Path) -> Path:
    root = tmp_path / "host" / "sdk"
    (root / "bin").mkdir(parents=True)
    (root / "lib").mkdir()
    (root / "bin" / "tool").write_text("#!")
    (root / "bin" / "tool").chmod(0o700)
    (root / "lib" / "x.so.1").write_text("x")
    (root / "lib" / "x.so").symlink_to("x.so.1")
    (root / "bin" / "t").symlink_to(root / "bin" / "tool")
    (root / "bin" / "lib").symlink_to("../lib")
    (root / "bin" / "out").symlink_to("../../secret")
    (root.parent / "secret").write_text("s")
    (root.parent / "link").symlink_to("sdk/bin/tool")
    return root


def take(store: Store, base: Path, *paths: str, **more: tuple[str, ...]) -> Toolchain:
    return import_toolchain(store, ToolchainSpec(paths=paths, **more), base)  # type: ignore[arg-type]


def entries(store: Store, toolchain: Toolchain) -> dict[str, Entry | str]:
    return {
        path: entry.target if isinstance(entry, Link) else entry
        for path, entry in walk(store.cas, toolchain.tree)
    }


def test_a_directory_at_another_place(store: Store, sdk: Path) -> None:
    found = entries(store, take(store, sdk.parent, "sdk=/opt/kit"))
    assert sorted(found) == [
        f"opt/kit/{name}" for name in ("bin/lib", "bin/t", "bin/tool", "lib/x.so", "lib/x.so.1")
    ]
    assert found["opt/kit/bin/t"] == "tool"
    assert found["opt/kit/bin/lib"] == "../lib"
    assert isinstance(tool := found["opt/kit/bin/tool"], File)
    assert tool.executable


def test_a_directory_at_its_own_place(store: Store, sdk: Path) -> None:
    found = entries(store, take(store, Path("/"), str(sdk)))
    own = str(sdk)[1:]
    assert sorted(found)[0] == f"{own}/bin/lib"
    assert found[f"{own}/bin/t"] == "tool"


def test_one_file_by_way_of_a_link(store: Store, sdk: Path) -> None:
    toolchain = take(store, sdk.parent, "link=/usr/bin/x", "sdk/lib=/usr/lib")
    found = entries(store, toolchain)
    assert isinstance(found["usr/bin/x"], File)
    assert set(found) == {"usr/bin/x", "usr/lib/x.so", "usr/lib/x.so.1"}
    assert str(sdk / "bin" / "tool") in toolchain.watched
    assert str(sdk / "lib") in toolchain.watched


def test_the_tree_does_not_depend_on_where_things_lie(store: Store, sdk: Path) -> None:
    first = take(store, sdk.parent, "sdk=/opt/kit")
    moved = sdk.parent.rename(sdk.parent.with_name("elsewhere"))
    (moved / "sdk" / "bin" / "t").unlink()
    (moved / "sdk" / "bin" / "t").symlink_to(moved / "sdk" / "bin" / "tool")
    assert take(store, moved, "sdk=/opt/kit").tree == first.tree


def test_changed_files_are_taken_anew(store: Store, sdk: Path) -> None:
    first = take(store, sdk, "lib=/usr/lib")
    (sdk / "lib" / "x.so.1").write_text("y")
    assert take(store, sdk, "lib=/usr/lib").tree != first.tree


def test_excluded_paths(store: Store, sdk: Path) -> None:
    found = entries(store, take(store, sdk, "lib=/usr/lib", exclude=("**/*.so",)))
    assert set(found) == {"usr/lib/x.so.1"}


def test_packages_and_paths_in_one_tree(store: Store, sdk: Path) -> None:
    found = entries(store, take(store, sdk, "bin/tool=/bin/tool", debian=("dash",)))
    assert isinstance(found["usr/bin/tool"], File)
    assert found["bin"] == "usr/bin"


def test_one_file_at_several_places(store: Store, sdk: Path) -> None:
    tool = str(sdk / "bin" / "tool")
    found = entries(store, take(store, sdk.parent, f"{tool}=/a", "sdk=/kit", f"{tool}=/b", tool))
    assert {"a", "b", "kit/bin/tool", tool[1:]} <= set(found)
    assert found["kit/bin/t"] == "tool"


def test_a_link_that_goes_where_a_link_in_the_tree_leads(store: Store, sdk: Path) -> None:
    paths = ("lib=/usr/lib", f"{sdk}/bin=/bin/kit")
    found = entries(store, take(store, sdk, *paths, debian=("dash",)))
    assert found["usr/bin/kit/t"] == "tool"
    assert "usr/bin/kit/lib" not in found


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("lib", "needs a place in the tree"),
        ("nothing=/usr/x", "no such file"),
        ("=/usr/x", "FROM=TO"),
        ("lib=/", "FROM=TO"),
        ("/dev/null", "not a file or a directory"),
    ],
)
def test_malformed_paths(store: Store, sdk: Path, path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        take(store, sdk, path)


def test_a_file_within_a_file_is_refused(store: Store, sdk: Path) -> None:
    with pytest.raises(InputError, match="at once"):
        take(store, sdk, "bin/tool=/a", "bin/tool=/a/b")
