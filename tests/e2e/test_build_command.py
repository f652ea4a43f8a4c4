"""`bn build`: what it does, what it prints, its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

ACTION_FAILED = 1


# build


def test_build_takes_a_directory_a_file_or_the_current_directory(small: Bn) -> None:
    above = small.directory.parent
    name = small.directory.name
    trees = {
        small.json("build")["result"],
        small.json("build", "spec.toml", "second")["result"],
        small.json("build", ".")["result"],
        small.json("build", str(small.directory))["result"],
    }
    small.directory = above
    trees.add(small.json("build", f"{name}/spec.toml")["result"])
    trees.add(small.json("build", name)["result"])
    assert len(trees) == 1
    assert (above / "result/second").read_text() == "text\n"


def test_build_copies_the_result_where_it_is_told(small: Bn) -> None:
    small.put("copy/mine", "mine")
    small("build", "--out", "copy")
    copied = small.directory / "copy/second"
    assert copied.read_text() == "text\n"
    assert not copied.is_symlink()
    assert (small.directory / "copy/mine").read_text() == "mine"
    assert not (small.directory / "result").exists()
    copied.write_text("edited\n")
    small("build", "--out", "copy")
    assert copied.read_text() == "text\n"
    small("build")
    assert small.result("second") == "text\n"


def test_build_without_a_link_says_where_the_result_is(small: Bn) -> None:
    said = small("build", "--no-link").stderr
    assert not (small.directory / "result").exists()
    assert str(small.store) in said


def test_result_of_a_target_holds_just_its_outputs(small: Bn) -> None:
    small("build", "first")
    assert os.listdir(small.directory / "result") == ["first"]
    small("build", "first", "second")
    assert sorted(os.listdir(small.directory / "result")) == ["first", "second"]


def test_results_cannot_be_written(small: Bn) -> None:
    small("build")
    assert not (small.directory / "result/second").stat().st_mode & 0o222


def test_dry_run_says_what_would_run_and_why_and_runs_nothing(small: Bn) -> None:
    first = small("build", "--dry-run")
    assert first.stdout.startswith("run   first: ")
    assert "wait  second: for first" in first.stdout
    assert "1 would run, 1 may follow, 0 cached" in first.stderr
    assert small.ran() == {"first", "second"}
    assert small("build", "--dry-run").stderr.startswith("up to date")
    small.put("src/file", "text again\n")
    planned = small.json("build", "--dry-run")["steps"]
    assert planned["first"]["plan"] == "run"
    assert "src/file" in planned["first"]["reason"]
    assert planned["second"] == {"plan": "wait", "for": ["first"]}
    assert small.result("second") == "text\n"


def test_keep_going_builds_what_a_failure_does_not_touch(broken: Bn) -> None:
    steps = broken.steps("--keep-going", code=ACTION_FAILED)
    assert steps == {"good": "built", "bad": "failed", "after": "skipped", "other": "built"}


def test_jobs_bounds_what_runs_at_once(bn: Bn) -> None:
    script = 'script = "sleep 0.3; echo {name} > $out/{name}"'
    actions = "".join(
        f'[actions.{name}]\ntools = ["sh"]\noutputs = ["{name}"]\n{script}\n'.replace(
            "{name}", name
        )
        for name in ("a", "b", "c")
    )
    bn.spec(actions)
    bn("build", "--jobs", "1")
    (log,) = (bn.store / "builds").glob("*/timeline.jsonl")
    running = most = 0
    for line in log.read_text().splitlines():
        event = json.loads(line)["event"]
        running += (event == "StepStarted") - (event == "StepFinished")
        most = max(most, running)
    assert most == 1


def test_failure_says_what_a_person_needs(broken: Bn) -> None:
    said = broken("build", code=ACTION_FAILED).stderr
    assert re.search(r"^failed: \[\d/4\] bad .*: exited with 1$", said, re.MULTILINE)
    assert "  | to be seen" in said
    whole = re.search(r"whole log: (.*)", said)
    assert whole
    with open(whole[1]) as log:
        assert log.read() == "to be seen\n"
    assert "reproduce: bn shell bad --run" in said
    assert "1 failed, 1 not tried" in said


def test_reproducing_uses_the_parameters_of_the_failure(broken: Bn) -> None:
    said = broken("build", "--set", "code=7", code=ACTION_FAILED).stderr
    line = re.search(r"reproduce: bn (.*)", said)
    assert line
    assert "to be seen" in broken(*line[1].split(), code=7).stdout


def test_long_log_shows_its_end(bn: Bn) -> None:
    bn.spec('[actions.a]\ntools = ["sh"]\nscript = "seq 1000; exit 1"\n')
    said = bn("build", code=ACTION_FAILED).stderr
    assert "  | 1000\n" in said
    assert "  | 900\n" not in said
    assert "the last 20 lines" in said
    assert bn("log", "a").stdout.splitlines() == [str(n) for n in range(1, 1001)]


def test_kept_sandbox_is_there_afterwards(broken: Bn) -> None:
    said = broken("build", "--keep-failed", code=ACTION_FAILED).stderr
    kept = re.search(r"sandbox kept: (.*)", said)
    assert kept
    assert os.path.isdir(kept[1])
    assert any("good" in names for _, _, names in os.walk(kept[1]))


def test_progress_of_a_pipe_is_a_line_for_each_action(small: Bn) -> None:
    lines = small("build").stderr.splitlines()
    assert [re.sub(r"[\d.]+ s", "T", line) for line in lines] == [
        "[1/2] first  T",
        "[2/2] second  T",
        "second → ./result  (2 built, 0 cached, T)",
    ]


def test_reader_that_goes_away_is_no_error(small: Bn) -> None:
    program = '"$@" | head -c 1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", program, "bash", *small.command("schema")],
        cwd=small.directory,
        env=small.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
