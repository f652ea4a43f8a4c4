"""Cells on file systems that keep directories in other ways: as new there, and used again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from executors.kernel import lists_by_name
from store.store import Store
from tests.conftest import Runner
from tests.executors.test_cells import (
    LOOK,
    TRACES,
    cells,
    test_inputs_follow_each_other,
    workspaces,
    x86_64,
)

__all__ = ["cells", "test_inputs_follow_each_other"]

SIZE: Final = 320 << 20
"""Bytes: XFS asks for 300 MB, but they are not taken before they are written."""

KINDS: Final = {
    "tmpfs": (),
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "ext4 without hashes": ("mkfs.ext4", "-q", "-F", "-O", "^dir_index"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store on a file system of its own."""
    make, place = KINDS[request.param], tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "t", str(place)]
    try:
        if make:
            image = tmp_path / "image"
            with image.open("wb") as file:
                file.truncate(SIZE)
            subprocess.run([*make, image], check=True, capture_output=True)
            mount = ["mount", "-o", "loop", str(image), str(place)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no {request.param} can be mounted here: {error}")
    try:
        with Store(place / "store") as opened:
            yield opened
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def test_one_cell_serves_actions_with_other_inputs(cells: Runner) -> None:
    first = await cells.says(LOOK, files={"d/a": "1"})
    used = workspaces(cells)
    for files in ({"d/a": "2"}, {"d/b": "2", "d/e/f": ""}, {"other/b": "2"}, {"c": "", "e/a": "1"}):
        await cells.says("ls", files=files)
    assert await cells.says(LOOK, files={"d/a": "1"}) == first
    assert workspaces(cells) == used
    assert len(used) == 1


def test_whether_names_are_listed_in_an_order_of_their_own(
    store: Store, request: pytest.FixtureRequest
) -> None:
    place = store.root / "empty"
    place.mkdir()
    assert lists_by_name(str(place)) == (request.node.callspec.params["store"] == "ext4")
    assert not list(place.iterdir())


@x86_64
@pytest.mark.parametrize("trace", ["files in the work directory", "a large work directory"])
async def test_the_next_action_finds_no_trace(cells: Runner, trace: str) -> None:
    fresh = await cells.says(LOOK, files={"d/a": "1"})
    await cells.says(TRACES[trace], files={"d/a": "1", "e/f": "2"})
    assert await cells.says(LOOK, files={"d/a": "1"}) == fresh
