"""The unisolated executor: what it adds to the common contract."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executors.base import NATIVE

if TYPE_CHECKING:
    from tests.conftest import Runner


async def test_nothing_can_write_into_the_store(native: Runner) -> None:
    script = "echo changed > f; chmod 777 d; echo changed > d/f; ln f $out/f; echo more >> f"
    files = {"f": "as it was", "d/f": "as it was"}
    outcome = await native.run(script, files=files, outputs=("f",))
    assert outcome.status == "succeeded"
    assert await native.says("cat f d/f", files=files) == "as it wasas it was"


async def test_an_output_linked_to_a_file_of_the_host(native: Runner, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.write_text("mine")
    await native.says(f"ln {host} $out/f", outputs=("f",))
    assert host.stat().st_nlink == 2 or host.stat().st_mode & 0o200
    host.write_text("changed")
    assert [path for path in native.store.cas.root.glob("blobs/*/*") if path.samefile(host)] == []


async def test_host_tools_but_a_clean_environment(
    native: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-O9")
    said = await native.says("echo $PATH; echo [$CFLAGS]; cd $HOME; cd $TMPDIR; pwd")
    path, flags, home = said.splitlines()
    assert path == os.environ["PATH"]
    assert flags == "[]"
    assert home.startswith(os.path.realpath(native.store.root))
    assert native.executor.isolation == NATIVE


async def test_what_left_its_group_is_killed(native: Runner) -> None:
    mark = f"1001.{os.getpid()}"
    await native.says(f"setsid sh -c 'setsid sleep {mark} & setsid sleep {mark} &'; true")
    assert native.processes_with(f"sleep\0{mark}") == []


@pytest.mark.parametrize(
    ("word", "replaced"),
    [
        ("/build", True),
        ("/build/src", True),
        ("-I/build/src", True),
        ("--prefix=/build", True),
        ("x:/build:y", True),
        ("src/build/x", False),
        ("/build-tools", False),
        ("/usr/build", False),
    ],
)
async def test_which_words_are_paths(native: Runner, word: str, replaced: bool) -> None:
    said = await native.says(("/bin/sh", "-c", 'echo "$1"', "sh", word))
    assert (str(native.store.root) in said) is replaced
