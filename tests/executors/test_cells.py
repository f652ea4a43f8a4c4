"""Cells: what an action leaves behind is not there for the next one, and does not cost the cell
more than it must."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executors.base import Limits, Status
from executors.cells import Cell
from executors.inputs import Inputs
from executors.kernel import replaces_in_place
from executors.sandbox import PlainSandbox, Sandbox
from executors.waiting import Interrupted
from store.digest import Digest
from store.objects import Entry, Link
from store.store import Store
from tests.conftest import Runner

x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers are x86-64's")


@pytest.fixture
def cells(store: Store, tools: Digest) -> Iterator[Runner]:
    """The executor that uses a sandbox again."""
    with contextlib.closing(Sandbox(store)) as executor:
        yield Runner(store, executor, tools)


def workspaces(cells: Runner) -> list[str]:
    """Return the names of the cells' workspaces now."""
    return sorted(os.listdir(cells.store.work()))


LOOK = """
echo $$; ls -lan --time-style=full-iso /build /bn /bn/out d /dev/shm; ls -la /tmp
stat -c '%a %s %h %n' /build /bn /bn/out d /tmp /dev/shm /proc/self/fd/1
cat /proc/net/dev /proc/net/unix /proc/sysvipc/* /proc/self/limits /proc/1/limits
perl -ne 'print if /Cap|Cpus_allowed|Sig|NoNew|Seccomp/' /proc/self/status
perl -e 'use Fcntl; print getpriority(0, 0), fcntl(STDOUT, F_GETFL, 0)'
"""
"""Prints whatever an action could see of the one before."""


async def test_one_cell_serves_many_actions(cells: Runner) -> None:
    first = await cells.says(LOOK, files={"d/a": "1"})
    used = workspaces(cells)
    for _ in range(3):
        assert await cells.says(LOOK, files={"d/a": "1"}) == first
    assert workspaces(cells) == used
    assert len(used) == 1


PROCESSOR = min(os.sched_getaffinity(0))

TRACES = {
    "files in the work directory": "mkdir -p a/b; echo x > a/b/c; ln -s a l; echo x > .hidden",
    "more outputs, a depfile": "echo x > $out/more; echo x > /bn/depfile; mkdir /bn/more",
    "files in private file systems": "echo x > /tmp/x; mkdir -p /dev/shm/x/y",
    "a file that came and went": "echo x > /tmp/x; rm /tmp/x; echo x > /build/y; rm /build/y",
    "a mode": "chmod 700 /tmp; chmod 755 /dev/shm",
    "the log's mode": "perl -e 'chmod(0777, *STDOUT)'",
    "the log's flags": "perl -e 'use Fcntl; fcntl(STDOUT, F_SETFL, O_NONBLOCK)'",
    "a log": "echo said; echo more >&2",
    "the work directory's mode": "chmod 700 /build",
    "the mode of $out": "chmod 711 /bn/out",
    "a large work directory": "perl -e 'for (1..600) { open(F, q(>), q(x) x 200 . $_) }'",
    "another $out": "mv /bn/out /bn/was; mkdir /bn/out",
    "$out as a link": "mv /bn/out /bn/was; ln -s was /bn/out",
    "a daemon": "perl -e 'fork and exit; setpgrp; sleep 1000' &",
    "the network": """perl -e '
        use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(99, INADDR_LOOPBACK))
        or bind(S, sockaddr_in(9999, INADDR_LOOPBACK));
        send(S, "x", 0, sockaddr_in(9999, INADDR_LOOPBACK))' """,
    "a refused connection": """perl -e '
        use Socket; socket(S, PF_INET, SOCK_STREAM, 0);
        connect(S, sockaddr_in(9, inet_aton("192.0.2.1")))' """,
    "shared memory": "perl -e 'exit(syscall(29, 4711, 4096, 01666) < 0)'",
    "a semaphore": "perl -e 'exit(syscall(64, 4711, 1, 01666) < 0)'",
    "priority of the first process": "perl -e 'setpriority(0, 1, 5)'",
    "limits of the first process": """perl -e '
        syscall(302, 1, 7, my $limits = pack("QQ", 50, 60), 0) == 0 or exit 3'""",
    "processors of the first process": f"""perl -e '
        syscall(203, 1, 8, my $mask = pack("Q", {1 << PROCESSOR}))'""",
}


@x86_64
@pytest.mark.parametrize("trace", TRACES)
async def test_what_an_action_leaves(cells: Runner, trace: str) -> None:
    files: dict[str, str | bytes | Entry] = {"d/a": "1"}
    fresh = await cells.says(LOOK, files=files)
    outcome = await cells.run(TRACES[trace], files=files)
    assert outcome.status in (Status.SUCCEEDED, Status.BAD_OUTPUTS), cells.log(outcome)
    assert await cells.says(LOOK, files=files) == fresh
    assert cells.left_over() == []


@pytest.mark.usefixtures("trees")
async def test_inputs_follow_each_other(cells: Runner) -> None:
    sets: list[dict[str, str | bytes | Entry]] = [
        {"d/a": "1", "d/e/f": "2", "d/e/g/h": "3"},
        {"d/a": "1", "d/e/f": "2", "d/e/g/h": "4"},
        {"d/a": "1", "d/b": "1", "d/e/f": "2", "d/e/g/h": "4"},
        {"d/e": "a file now", "d/a/b": "a directory now"},
        {"d/l": Link("a/b"), "d/a/b": "a directory now"},
        {"d/l": "no link", "d/a/b": "a directory now"},
        {"another/l": "no link", "another/a/b": "a directory now"},
        {"third/a": "in a directory of another name"},
        {"third/a": "in two", "fourth/a": "directories"},
        {"d": "a file now"},
        {"d": "another file"},
        {"e/a": "1", "f": Link("e/a")},
        {"e/a": "2", "f": Link("e/a"), "g": ""},
        {f"d/{number:03}": str(number) for number in range(300)},
        {"d/1": "few again"},
        {},
    ]
    script = """perl -e 'sub show { my @s = lstat $_[0]; print "@_ @s[2, 4, 7, 9] ";
        if (-l _) { print readlink $_[0] } elsif (-f _) { open F, $_[0]; print <F> }
        elsif (opendir D, $_[0]) { show("$_[0]/$_") for grep !/^\\.\\.?$/, readdir D } }
        show(".")'"""
    plain = Runner(cells.store, PlainSandbox(cells.store), cells.tools)
    for files in [*sets, *reversed(sets)]:
        assert await cells.says(script, files=files) == await plain.says(script, files=files)


@pytest.mark.usefixtures("trees")
async def test_large_inputs_stay_between_builds(store: Store, tools: Digest) -> None:
    first = {f"d/{number:03}": str(number) for number in range(700)}
    sets: list[dict[str, str | bytes | Entry]] = [
        {**first},
        {**first, "d/007": "another one"},
        {**first, "d/007": "another one", "d/500": "and this"},
        {**first, "d/more": "longer"},
        {name: text for name, text in first.items() if name != "d/100"},
        {**first, "d/007": Link("008")},
        {f"e/{name}": text for name, text in first.items()},
        {f"e/{name}": f"{text} " for name, text in first.items()},
    ]
    script = """perl -e 'sub show { my @s = lstat $_[0]; print "@_ @s[2, 4, 7, 9] ";
        if (-l _) { print readlink $_[0] } elsif (-f _) { open F, $_[0]; print <F> }
        elsif (opendir D, $_[0]) { show("$_[0]/$_") for grep !/^\\.\\.?$/, readdir D } }
        show(".")'"""
    plain = Runner(store, PlainSandbox(store), tools)
    shelf = store.root / "staged"
    for number, files in enumerate([*sets, *reversed(sets)]):
        there = {path.name: (path / "tree").stat().st_ino for path in shelf.glob("*")}
        with contextlib.closing(Sandbox(store)) as executor:
            runner = Runner(store, executor, tools)
            said = await runner.says(script, files=files)
        assert said == await plain.says(script, files=files)
        assert os.listdir(shelf)
        now = {path.name: (path / "tree").stat().st_ino for path in shelf.glob("*")}
        if number in (1, 2):
            assert now == there or not replaces_in_place(str(store.root))
        assert plain.left_over() == []


LARGE = {f"d/{number:03}": str(number) for number in range(300)}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was found of inputs after an action had started with them."""
    found: list[bool] = []
    are_as_left = Inputs.are_as_left

    def noted(inputs: Inputs) -> bool:
        found.append(are_as_left(inputs))
        return found[-1]

    monkeypatch.setattr(Inputs, "are_as_left", noted)
    return found


async def with_large_inputs(store: Store, tools: Digest, touch_before: float = 0) -> None:
    with contextlib.closing(Sandbox(store)) as executor:
        runner = Runner(store, executor, tools)
        store.cas._touch_before = touch_before
        said = await runner.says("cat d/*; sleep 0.1", files=LARGE)
        assert said == "".join(LARGE[name] for name in sorted(LARGE))
    assert runner.left_over() == []


async def test_of_large_inputs_that_somebody_wrote_to_nothing_is_believed(
    store: Store, tools: Digest, found: list[bool]
) -> None:
    await with_large_inputs(store, tools)
    await with_large_inputs(store, tools)
    assert found == [True, True]
    (box,) = (store.root / "staged").iterdir()
    file = box / "tree/007"
    file.chmod(0o644)
    file.write_text("8")  # and with it the blob
    await with_large_inputs(store, tools)
    assert found == [True, True, False, True]
    assert os.listdir(store.root / "quarantine")


async def test_large_inputs_that_were_not_used_lately_are_staged_anew(
    store: Store, tools: Digest, found: list[bool]
) -> None:
    await with_large_inputs(store, tools)
    await with_large_inputs(store, tools, time.time() + 3600)
    assert found == [True, False, True]
    await with_large_inputs(store, tools)
    assert found == [True, False, True, True]


async def test_an_input_of_a_cell_cannot_be_changed(cells: Runner) -> None:
    for _ in range(2):
        said = await cells.says(
            "chmod 777 d d/a f; echo x > d/a; rm -f d/a; mv d e; echo x > f; cat d/a f",
            files={"d/a": "as", "f": " it was"},
        )
        assert said.endswith("as it was")


async def test_cells_by_limits(cells: Runner) -> None:
    for memory in (1 << 28, 1 << 29, None, 1 << 28):
        await cells.says("true", limits=Limits(memory=memory))
    assert len(workspaces(cells)) == 3


async def test_cpu_time_is_limited_action_by_action(cells: Runner) -> None:
    busy = "perl -e 'do { @t = times } while $t[0] + $t[1] < 0.6'"
    for _ in range(3):
        outcome = await cells.run(busy, limits=Limits(cpu_seconds=1))
        assert outcome.status is Status.SUCCEEDED
        assert 0.5 < outcome.cpu_seconds < 1
    outcome = await cells.run("while :; do :; done", limits=Limits(cpu_seconds=1))
    assert "more than its 1 s of CPU time" in outcome.reason


async def test_a_killed_cell_is_replaced(cells: Runner) -> None:
    await cells.says("true")
    outcome = await cells.run("sleep 1000", limits=Limits(wall_seconds=0.2))
    assert outcome.status is Status.KILLED
    assert outcome.cpu_seconds < 0.2
    assert await cells.says("echo again") == "again\n"
    assert cells.left_over() == []


async def test_a_kept_sandbox_is_no_cell_any_more(cells: Runner) -> None:
    outcome = await cells.run("echo x > left; exit 1", files={"d/a": "1"}, keep_failed=True)
    assert outcome.kept is not None
    assert (outcome.kept / "build/left").read_text() == "x\n"
    assert (outcome.kept / "in/d/a").read_text() == "1"
    assert await cells.says("ls -A") == ""
    assert Path(outcome.kept).exists()


async def test_idle_cells_are_few(cells: Runner) -> None:
    for number in range(12):
        await cells.says("true", limits=Limits(processes=100 + number))
    assert len(workspaces(cells)) == 8


async def test_modules_of_the_sandbox_are_never_loaded(cells: Runner) -> None:
    # what a cell would import from an action's root it would run with its own rights
    planted = cells.request("", files={"usr/lib/python3.11/json.py": "boom", "json.py": "boom"})
    toolchains = (planted.action.input_root, cells.tools)
    for _ in range(2):
        await cells.says("true", toolchains=toolchains)


async def test_a_wait_for_a_cell_that_is_cut_short(
    cells: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cells.says("echo one")
    assert len(workspaces(cells)) == 1

    async def interrupted(_self: Cell) -> bool:
        raise Interrupted

    monkeypatch.setattr(Cell, "is_ready", interrupted)
    with pytest.raises(Interrupted):
        await cells.says("echo two")
    assert workspaces(cells) == []
