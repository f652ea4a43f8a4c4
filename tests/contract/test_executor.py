"""What every executor does alike: outputs, log, exit codes, depfile, limits, cancellation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
from attrs import evolve

from executors.base import Limits, Status
from executors.limits import enforcement
from executors.sandbox import Sandbox
from store.cas import MissingBlob
from store.digest import Digest, digest_bytes
from store.errors import HostError
from store.objects import Directory, File, Link

if TYPE_CHECKING:
    from tests.conftest import Runner


async def test_outputs_and_their_modes(either: Runner) -> None:
    outcome = await either.run(
        "mkdir $out/bin; printf x > $out/bin/tool; chmod 700 $out/bin/tool; printf y > $out/data;"
        "chmod 000 $out/data; ln -s bin/tool $out/link",
        outputs=("bin/tool", "data", "link"),
    )
    assert either.output(outcome, "bin/tool") == File(digest_bytes(b"x"), 1, True)
    assert either.output(outcome, "data") == File(digest_bytes(b"y"), 1, False)
    assert either.output(outcome, "link") == Link("bin/tool")
    assert either.left_over() == []


async def test_parents_of_outputs_are_there(either: Runner) -> None:
    outcome = await either.run(": > $out/a/b/c", outputs=("a/b/c",))
    assert either.output(outcome, "a/b/c") == File(digest_bytes(b""), 0)


async def test_an_output_that_is_a_directory(either: Runner) -> None:
    outcome = await either.run("mkdir -p $out/d/e; : > $out/d/f", outputs=("d",))
    assert isinstance(either.output(outcome, "d/e"), Directory)
    assert isinstance(either.output(outcome, "d/f"), File)


async def test_no_outputs(either: Runner) -> None:
    assert either.output(await either.run("true"), "") == Directory(
        either.request("").action.input_root
    )


async def test_inputs_are_in_the_work_directory(either: Runner) -> None:
    script = "cat file dir/deep/file dir/link; test -x dir/tool; test ! -x file"
    files = {
        "file": "1",
        "dir/deep/file": "2",
        "dir/link": Link("deep/file"),
        "dir/tool": File(either.store.cas.put_bytes(b"#!", True), 2, True),
    }
    assert await either.says(script, files=files) == "122"


async def test_a_link_among_the_inputs(either: Runner) -> None:
    assert await either.says("cat link", files={"a/b": "hello", "link": Link("a/b")}) == "hello"


async def test_staged_files_carry_the_epoch(either: Runner) -> None:
    said = await either.says("stat -c %Y . d d/f f $out", files={"d/f": "", "f": ""})
    assert set(said.split()) == {"315532800"}


async def test_log_is_output_and_error_in_order(either: Runner) -> None:
    outcome = await either.run("echo one; echo two >&2; echo three; exit 3")
    assert either.log(outcome) == "one\ntwo\nthree\n"
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 3)
    assert outcome.reason == "exited with 3"
    assert outcome.outputs is None


async def test_standard_input_is_closed(either: Runner) -> None:
    assert await either.says("cat; echo end") == "end\n"


async def test_a_command_that_is_not_there(either: Runner) -> None:
    outcome = await either.run(("/no/such/command", "x"))
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 127)
    assert "not found" in outcome.reason


async def test_killed_by_a_signal(either: Runner) -> None:
    outcome = await either.run("kill -SEGV $$")
    assert (outcome.status, outcome.exit_code) == (Status.KILLED, 139)
    assert "SIGSEGV" in outcome.reason


async def test_environment_and_arguments(either: Runner) -> None:
    said = await either.says("echo $A $TZ $LANG $SOURCE_DATE_EPOCH; umask", env={"A": "b c"})
    assert said == "b c UTC C.UTF-8 315532800\n0022\n"
    assert await either.says(("/bin/sh", "-c", 'echo "$1"', "sh", "a 'b' $c")) == "a 'b' $c\n"


@pytest.mark.parametrize(
    ("script", "outputs", "reason"),
    [
        ("true", ("a", "b/c"), "declared output 'a' is missing; declared output 'b/c' is missing"),
        (": > $out/x", (), "output 'x' was not declared"),
        ("mkdir -p $out/x/y", (), "output 'x' was not declared"),
        (": > $out/a; : > $out/b", ("a",), "output 'b' was not declared"),
        ("mkfifo $out/a", ("a",), "output 'a' is a fifo"),
        (": > $out/a; chmod u+s $out/a", ("a",), "output 'a' has a set-id bit"),
        (": > $out/a; chmod 2755 $out/a", ("a",), "output 'a' has a set-id bit"),
        ("ln -s /etc/passwd $out/a", ("a",), "output 'a' is a link that leaves $out"),
        ("ln -s ../depfile $out/a", ("a",), "output 'a' is a link that leaves $out"),
        (
            "mkdir -p $out/d/p/q; ln -s ../.. $out/d/p/q/up; ln -s p/q/up/../.. $out/d/a",
            ("d",),
            "output 'd/a' is a link that leaves $out",
        ),
        ("rm -r $out", ("a",), "$out is gone"),
        ("rm -r $out; ln -s /usr $out", (), "$out is not a directory"),
        ("perl -e 'open(F, \">$ENV{out}/a\\xff\")'", (), "not UTF-8"),
        (
            "perl -e 'chdir $ENV{out}; for (1..150) {mkdir q(d); chdir q(d)}'",
            ("d",),
            "nested deeper",
        ),
    ],
)
async def test_outputs_that_are_refused(
    either: Runner, script: str, outputs: tuple[str, ...], reason: str
) -> None:
    outcome = await either.run(script, outputs=outputs)
    assert outcome.status is Status.BAD_OUTPUTS
    assert reason in outcome.reason
    assert outcome.outputs is None
    assert either.left_over() == []


async def test_locked_directories_are_no_obstacle(either: Runner) -> None:
    script = "mkdir $out/d; echo x > $out/d/f; chmod 0 $out/d; mkdir s; : > s/f; chmod 0 s"
    outcome = await either.run(script, outputs=("d",))
    assert isinstance(either.output(outcome, "d/f"), File)
    assert either.left_over() == []


async def test_what_is_nested_deeply_is_removed(either: Runner) -> None:
    await either.says("perl -e 'for (1..5000) {mkdir q(d); chdir q(d)}; mkdir q(locked), 0'")
    assert either.left_over() == []


async def test_an_output_linked_twice(either: Runner) -> None:
    outcome = await either.run("echo x > $out/a; ln $out/a $out/b", outputs=("a", "b"))
    assert either.output(outcome, "a") == either.output(outcome, "b") is not None


async def test_depfile(either: Runner) -> None:
    outcome = await either.run(
        'echo "x: src/../src/b.h src/a.h \\\\\n $PWD/src/sub/c.h /usr/include/x.h" > /bn/depfile',
        files={"src/a.h": "", "src/b.h": "", "src/sub/c.h": "", "src/d.h": ""},
        depfile=True,
    )
    assert either.output(outcome, "") is not None
    assert outcome.observed == ("src/a.h", "src/b.h", "src/sub/c.h")


async def test_a_missing_depfile(either: Runner) -> None:
    outcome = await either.run("true", depfile=True)
    assert outcome.status is Status.BAD_OUTPUTS
    assert "wrote no depfile" in outcome.reason


async def test_paths_of_the_sandbox_in_arguments(either: Runner) -> None:
    outcome = await either.run(
        (
            *("/bin/sh", "-c", 'cat "$1" > "$2"; echo "x: $1" > "$3"', "sh"),
            *("/build/in.c", "/bn/out/o", "/bn/depfile"),
        ),
        files={"in.c": "text"},
        outputs=("o",),
        depfile=True,
    )
    assert either.output(outcome, "o") == File(digest_bytes(b"text"), 4)
    assert outcome.observed == ("in.c",)


async def test_wall_time(either: Runner) -> None:
    outcome = await either.run("sleep 1000 & sleep 1000", limits=Limits(wall_seconds=0.3))
    assert outcome.status is Status.KILLED
    assert outcome.reason == "ran longer than its 0.3 s"
    assert either.left_over() == []


async def test_endless_log(either: Runner) -> None:
    limits = Limits(wall_seconds=30, log_bytes=10_000)
    outcome = await either.run("while :; do echo spam spam spam; done", limits=limits)
    assert outcome.status is Status.KILLED
    assert "log" in outcome.reason
    assert len(either.log(outcome)) == 10_000


async def test_cpu_time(either: Runner) -> None:
    outcome = await either.run("while :; do :; done", limits=Limits(wall_seconds=30, cpu_seconds=1))
    assert (outcome.status, outcome.reason) == (Status.KILLED, "used more than its 1 s of CPU time")
    assert outcome.cpu_seconds > 0.5


async def test_memory(either: Runner) -> None:
    limits = Limits(memory=64 * 1024 * 1024, wall_seconds=30)
    outcome = await either.run("perl -e '$x = q(x) x 500_000_000; print length $x'", limits=limits)
    assert outcome.status in (Status.KILLED, Status.FAILED)
    if ("memory", "control groups, version 1") in enforcement():
        assert outcome.reason == "used more than its 67 MB of memory"
    assert "500000000" not in either.log(outcome)
    modest = await either.run("perl -e '$x = q(x) x 5_000_000; print length $x'", limits=limits)
    assert either.log(modest).endswith("5000000")


async def test_fork_bomb(either: Runner) -> None:
    limits = Limits(processes=40, wall_seconds=2)
    bomb = "bomb() { bomb | bomb & wait; }; bomb"
    outcome = await either.run(bomb, limits=limits)
    assert outcome.status is not Status.SUCCEEDED or either.log(outcome)
    assert await either.says("echo still here") == "still here\n"
    assert either.left_over() == []


async def test_cancelled(either: Runner) -> None:
    marker = f"1000.{id(either) % 1000:03}"
    with trio.move_on_after(0.3) as scope:
        await either.run(f"setsid sleep {marker} & sleep {marker}")
    assert scope.cancelled_caught
    assert either.processes_with(f"sleep\0{marker}") == []
    assert either.left_over() == []


async def test_many_at_once(either: Runner) -> None:
    said: dict[int, str] = {}

    async def one(number: int) -> None:
        said[number] = await either.says(f"cat in; echo {number}", files={"in": f"{number} "})

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(one, number)
    assert said == {number: f"{number} {number}\n" for number in range(12)}
    assert either.left_over() == []


async def test_a_missing_input(either: Runner) -> None:
    request = either.request("true")
    gone = evolve(request.action, input_root=Digest("0" * 64))
    with pytest.raises(MissingBlob):
        await either.executor.execute(evolve(request, action=gone))
    assert either.left_over() == []


async def test_a_failed_one_is_kept_if_asked(either: Runner) -> None:
    outcome = await either.run("echo x > scratch; exit 1", keep_failed=True)
    assert outcome.kept is not None
    assert (outcome.kept / "build/scratch").read_text() == "x\n"
    succeeded = await either.run("true", keep_failed=True)
    assert succeeded.kept is None
    assert either.left_over() == [outcome.kept.name]


async def test_figures(either: Runner) -> None:
    outcome = await either.run("perl -e '$i++ while $i < 3_000_000'")
    assert outcome.cpu_seconds > 0
    assert outcome.wall_seconds > 0
    assert outcome.peak_memory > 1_000_000


async def test_cancelled_at_any_moment(either: Runner) -> None:
    request = either.request("mkdir $out/d; sleep 1000", files={"a/b": "c"})
    before = set(either.children())
    for step in range(40):
        with trio.move_on_after(step * 0.0004):
            await either.executor.execute(request)
        assert either.left_over() == []
    either.executor.close()  # the fork server and its wall may go on until then
    assert either.processes_with(str(either.store.work())) == []
    assert set(either.children()) <= before


SHOW_AFFINITY = """/bin/sh -c '
    while read -r name value; do
        case $name in Cpus_allowed_list:) echo "$value";; esac
    done < /proc/self/status' """


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
async def test_pinned_to_processors_with_all_that_it_starts(either: Runner) -> None:
    allowed = os.sched_getaffinity(0)
    first, last = min(allowed), max(allowed)
    free = await either.says(SHOW_AFFINITY)
    for cpus in ((last,), (first,), (first, last)):
        request = evolve(either.request(SHOW_AFFINITY), cpus=cpus)
        said = either.log(await either.executor.execute(request)).strip()
        assert set(said.replace("-", ",").split(",")) == set(map(str, cpus))
    assert await either.says(SHOW_AFFINITY) == free
    assert os.sched_getaffinity(0) == allowed


async def test_processors_that_are_not_there(either: Runner) -> None:
    request = evolve(either.request("true"), cpus=(4095,))
    if isinstance(either.executor, Sandbox):
        assert (await either.executor.execute(request)).exit_code == 127
    else:
        with pytest.raises(HostError):
            await either.executor.execute(request)
