"""The commands that explain builds: why, impact, autopsy, critical-path."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

ACTION_FAILED = 1
USAGE = 2
INPUT = 3
HOST = 4


def edit(bn: Bn, path: str, old: str, new: str) -> None:
    """Replace what stands in a file."""
    file = bn.directory / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


# why


def test_why_follows_dependencies_and_parameters(c_project: Bn) -> None:
    bn = c_project
    bn("build")
    edit(bn, "src/b.h", "42", "42 /* new */")
    bn("build")
    assert "file src/b.h changed (line 1)" in bn("why", "compile[src/b.c]").stdout
    edit(bn, "src/b.h", "42", "43")
    bn("build")
    assert "  compile[src/b.c] ← file src/b.h changed (line 1)\n" in bn("why", "app").stdout
    bn("build", "--set", "opt=2")
    said = bn("why", "app").stdout
    assert "← flag -O1 → -O2 ← parameter opt 1 → 2 (--set opt=2)" in said
    assert "b.h" not in said
    (row,) = bn.json("why", "app")
    assert all(change["kind"] == "dependency" for change in row["changes"])
    below = row["changes"][0]["because"][0]
    assert (below["kind"], below["because"][0]["name"]) == ("flag", "opt")


def test_why_compares_any_two_builds(c_project: Bn) -> None:
    bn = c_project
    bn("build")
    edit(bn, "src/b.h", "42", "43")
    bn("build")
    edit(bn, "src/a.c", "main(void) {", "main(void) { b();")
    bn("build")
    last = bn("why", "app", "--build", "last").stdout
    assert "src/a.c changed" in last
    assert "src/b.h" not in last
    before = bn("why", "app", "--build", "last~1").stdout
    assert "src/b.h changed" in before
    both = bn("why", "app", "--against", "last~2").stdout
    assert "src/a.c changed" in both
    assert "src/b.h changed" in both
    same = bn("why", "app", "--build", "last", "--against", "last").stdout
    assert "the same action, the same outputs" in same
    first = bn("why", "app", "--build", "last~2").stdout
    assert "as in all builds before" in first
    error = bn.json("why", "app", "--build", "nonsense", code=INPUT)["error"]
    assert error["message"] == "build nonsense: not recorded"
    assert "only 3 are recorded" in bn("why", "app", "--against", "last~9", code=INPUT).stderr


# impact


def labels(document: dict[str, Any]) -> set[str]:
    return {one["label"] for one in document["affected"]}


def test_impact_tells_just_what_the_build_then_runs(c_project: Bn) -> None:
    bn = c_project
    bn("build")
    for path, old, new in (
        ("src/b.h", "42", "43"),
        ("src/a.c", "main", "/* m */ main"),
        ("src/a.h", "int b(void);", "int b(void); int c(void);"),
    ):
        expected = bn.json("impact", path)
        assert (expected["exact"], expected["never_ran"]) == (True, 0)
        assert 0 < expected["seconds"] <= expected["work"] + 1e-3
        edit(bn, path, old, new)
        ran = bn.ran()
        assert ran <= labels(expected)
        assert labels(expected) - ran <= {"app"}  # where the objects came out as before
    said = bn("impact", "src/b.h").stdout
    assert "this edit re-runs 2 actions of 3, about" in said
    assert "app ← compile[src/b.c]" in said


def test_impact_of_directories_specs_toolchains_and_tools(c_project: Bn) -> None:
    bn = c_project
    bn("build")
    every = {"compile[src/a.c]", "compile[src/b.c]", "app"}
    assert labels(bn.json("impact", "src")) == every
    assert labels(bn.json("impact", "src/a.c", "src/b.c")) == every
    toolchain = re.search(r'cc = "(.*)"', (bn.directory / "spec.toml").read_text())
    assert toolchain
    for path, kind in (
        ("spec.toml", "spec"),
        (toolchain[1], "toolchain"),
        ("/usr/bin/gcc", "tool"),
    ):
        found = bn.json("impact", path)
        assert (found["edits"][0]["kind"], labels(found)) == (kind, every)
    assert "at most 3 actions" in bn("impact", "spec.toml").stdout
    assert labels(bn.json("impact", "--tests", "src/b.h")) == {"compile[src/b.c]", "app", "check"}
    assert labels(bn.json("impact", "--target", "compile", "src/b.h")) == {"compile[src/b.c]"}
    bn.put("src/notes.txt", "")
    assert "re-runs nothing" in bn("impact", "src/notes.txt").stdout


def test_impact_before_the_first_build_says_that_nothing_is_known(c_project: Bn) -> None:
    found = c_project.json("impact", "src/b.h")
    assert labels(found) == {"compile[src/a.c]", "compile[src/b.c]", "app"}
    assert found["never_ran"] == 3
    said = c_project("impact", "src/a.c").stdout
    assert "never ran" in said
    assert "run without any edit" in said


def test_impact_of_what_is_not_there_is_an_error(c_project: Bn) -> None:
    bn = c_project
    error = bn.json("impact", "src/bb.h", code=INPUT)["error"]
    assert error["message"] == "src/bb.h: no such file or directory"
    assert error["hint"] == "did you mean 'src/b.h'?"
    bn.put("README", "")
    assert "is no part of spec.toml" in bn("impact", "README", code=INPUT).stderr
    assert "unknown target" in bn("impact", "--target", "x", "src", code=INPUT).stderr
    bn("impact", "--spec", "gone.toml", "src", code=INPUT)
    bn("impact", code=USAGE)


# autopsy


def autopsy(bn: Bn, *arguments: str) -> dict[str, Any]:
    """Return the one failure of the last build that failed."""
    (failure,) = bn.json("autopsy", *arguments)["failures"]
    assert isinstance(failure, dict)
    return failure


def likeliest(failure: dict[str, Any]) -> tuple[str, str, str]:
    change = failure["candidates"][0]["change"]
    return change["kind"], change["name"], change["detail"]


def test_autopsy_of_a_compile_error(c_project: Bn) -> None:
    bn = c_project
    bn("build")
    edit(bn, "src/b.c", "return B", "return C")
    edit(bn, "src/b.h", "42", "43")
    bn("build", code=ACTION_FAILED)
    failure = autopsy(bn)
    assert failure["label"] == "compile[src/b.c]"
    assert failure["stopped"] == ["app"]
    (line,) = failure["decisive"]
    assert (line["kind"], line["file"], line["line"]) == ("compiler", "src/b.c", 3)
    assert likeliest(failure) == ("file", "src/b.c", "changed (line 3)")
    assert [one["change"]["name"] for one in failure["candidates"]] == ["src/b.c", "src/b.h"]
    assert failure["candidates"][0]["likeness"] > 0.7
    again = failure["reproduce"].split()[1:]
    done = bn(*[word.strip("'") for word in again], code=ACTION_FAILED)
    assert "'C' undeclared" in done.stderr
    said = bn("autopsy").stdout
    assert "likely causes, since build" in said
    assert "not built because of it: app" in said


def test_autopsy_of_a_link_error_names_the_source(c_project: Bn) -> None:
    bn = c_project
    bn("build")
    edit(bn, "src/b.c", "return B", "extern int gone(void); return gone()")
    bn("build", code=ACTION_FAILED)
    failure = autopsy(bn)
    assert (failure["label"], failure["decisive"][0]["kind"]) == ("app", "linker")
    assert likeliest(failure) == ("file", "src/b.c", "changed (line 3)")
    assert failure["candidates"][0]["between"] == ["compile[src/b.c]"]


def test_autopsy_of_a_test_failure_goes_back_through_all_steps(c_project: Bn) -> None:
    bn = c_project
    bn("test")
    edit(bn, "src/b.h", "42", "43")
    bn("build")
    bn("test", code=ACTION_FAILED)  # in this build only the test itself is looked at
    failure = autopsy(bn)
    assert (failure["label"], failure["decisive"]) == ("check", [])
    assert likeliest(failure) == ("file", "src/b.h", "changed (line 1)")
    assert failure["candidates"][0]["between"] == ["app", "compile[src/b.c]"]
    assert "its log is empty" in bn("autopsy").stdout


FAILS = {
    "slow": (
        'script = "sleep 60"\nresources = {timeout = "1s"}',
        ("time limit", "", "reached: it ran longer than its 1 s"),
    ),
    "hungry": (
        'script = "tail /dev/zero"\nresources = {memory = "60MB", timeout = "60s"}',
        ("memory limit", "", "reached: it used more than its 60 MB of memory"),
    ),
    "forgets": (
        'script = "echo > $out/other"\noutputs = ["wanted"]',
        (
            "outputs",
            "",
            (
                "are not as declared: declared output 'wanted' is missing; "
                "output 'other' was not declared"
            ),
        ),
    ),
    "misses": (
        'script = "cat src/a src/b"\ninputs = ["src:a"]',
        (
            "missing",
            "src/b",
            "is not in the sandbox, though it lies at src/b: it is no input",
        ),
    ),
    "calls": (
        'script = "no-such-program"',
        (
            "missing",
            "no-such-program",
            "is neither an input nor in a tool: file or program not found",
        ),
    ),
}


@pytest.mark.parametrize("name", FAILS)
def test_autopsy_of_what_never_passed(bn: Bn, name: str) -> None:
    text, expected = FAILS[name]
    bn.put("src/a", "a\n")
    bn.put("src/b", "b\n")
    bn.spec(f'[sources.src]\npath = "src"\n[actions.it]\ntools = ["sh"]\n{text}\n')
    bn("build", code=ACTION_FAILED)
    failure = autopsy(bn)
    if name == "hungry" and failure["status"] == "failed":
        assert failure["decisive"][0]["kind"] == "memory"  # tail itself found out
        return
    assert likeliest(failure) == expected
    assert failure["passed_in"] is None
    if name == "misses":
        assert failure["hints"] == ["add src/b to the inputs of it"]


def test_autopsy_of_what_failed_by_chance(bn: Bn) -> None:
    bn.spec('[actions.it]\ntools = ["sh"]\nscript = "exit 3"\n')
    bn("build", code=ACTION_FAILED)
    bn("build", code=ACTION_FAILED)
    failure = autopsy(bn, "last")
    assert failure["passed_in"] is None
    assert failure["candidates"][0]["change"]["kind"] == "action"


def test_autopsy_of_many_failures_tells_what_they_have_in_common(c_project: Bn) -> None:
    bn = c_project
    bn("build")
    edit(bn, "src/a.h", "int b(void);", "int b(void)")
    bn("build", "--keep-going", code=ACTION_FAILED)
    document = bn.json("autopsy")
    assert {one["label"] for one in document["failures"]} == {
        "compile[src/a.c]",
        "compile[src/b.c]",
    }
    root = document["roots"][0]
    assert (root["change"]["name"], len(root["failed"])) == ("src/a.h", 2)
    assert document["unreached"] == ["app"]
    said = bn("autopsy", "-n", "1").stdout
    assert "1 more failed" in said


def test_autopsy_takes_the_last_build_that_failed_or_any(small: Bn) -> None:
    assert "no build is known" in small("autopsy", code=INPUT).stderr
    small("build")
    assert "no build is known" in small("autopsy", code=INPUT).stderr
    assert "nothing failed in it" in small("autopsy", "last").stdout
    assert small.json("autopsy", "last")["failures"] == []
    assert "not recorded" in small("autopsy", "nonsense", code=INPUT).stderr
    small("autopsy", "-n", "0", code=USAGE)


def test_pages_are_written_where_they_can_be(broken: Bn, tmp_path: Path) -> None:
    broken("build", code=ACTION_FAILED)
    page = tmp_path / "page.html"
    broken("autopsy", "--html", str(page))
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "<svg" in text
    assert "to be seen" in text
    broken("critical-path", "--html", str(page))
    assert "Likely causes" not in page.read_text()
    gone = str(tmp_path / "gone" / "page.html")
    assert "cannot write" in broken("autopsy", "--html", gone, code=HOST).stderr


# critical-path


def test_critical_path_is_the_chain_that_ended_last(bn: Bn) -> None:
    bn.spec(
        """
        [actions.quick]
        tools = ["sh"]
        script = "echo > $out/o"
        outputs = ["o"]
        [actions.slow]
        tools = ["sh"]
        script = "sleep 0.5; echo > $out/o"
        outputs = ["o"]
        [actions.end]
        tools = ["sh"]
        inputs = ["quick", "slow"]
        script = "sleep 0.2"
        """
    )
    bn("build", "--jobs", "2")
    found = bn.json("critical-path")
    assert [link["label"] for link in found["chain"]][-2:] == ["slow", "end"]
    assert found["gains"][0]["label"] == "slow"
    assert 0 < found["gains"][0]["half"] <= found["gains"][0]["zero"] <= found["makespan"]
    assert 0.7 <= found["longest_chain"] <= found["makespan"]
    said = bn("critical-path", "last", "-n", "1").stdout
    assert "slow" in said
    assert "the path below took" in said


def test_critical_path_of_what_did_not_run(small: Bn) -> None:
    assert "no build is recorded" in small("critical-path", code=INPUT).stderr
    small("build")
    small("build", "second", "check")
    small("build", "second", "check", "--set", "word=hello")
    assert "nothing ran" in small("critical-path").stdout
    assert small.json("critical-path")["chain"] == []
    assert "only 3 are recorded" in small("critical-path", "last~7", code=INPUT).stderr


# shell


def test_shell_of_a_recorded_build_is_as_it_was(broken: Bn) -> None:
    broken("build", "--set", "code=5", code=ACTION_FAILED)
    broken("build", "--set", "code=6", code=ACTION_FAILED)
    assert broken("shell", "--build", "last~1", "--run", code=5).stdout == "to be seen\n"
    assert broken("shell", "--build", "last", "bad", "--run", code=6).stdout == "to be seen\n"
    error = broken.json("shell", "--build", "last", "bda", code=INPUT)["error"]
    assert error["hint"] == "did you mean 'bad'?"
    broken("build", "other")
    assert "nothing failed in it" in broken("shell", "--build", "last", code=INPUT).stderr


# told while a step runs

CHAIN = """
    [sources.src]
    path = "src"
    [actions.first]
    tools = ["sh"]
    inputs = ["src:a.txt"]
    script = "cat src/a.txt > $out/word"
    outputs = ["word"]
    [actions.second]
    tools = ["sh"]
    inputs = ["first"]
    script = "read length < first/word; sleep $length; echo > $out/done"
    outputs = ["done"]
    """


@pytest.mark.parametrize("stopped", [False, True])
def test_a_step_that_ran_after_another_was_told_to_start_and_why(bn: Bn, stopped: bool) -> None:
    bn.spec(CHAIN, default="second")
    bn.put("src/a.txt", "0\n")
    bn("build")
    first = _last_timeline(bn)
    bn.put("src/a.txt", "30\n" if stopped else "0.01\n")
    building = bn.start("build")
    if stopped:
        deadline = time.monotonic() + 60
        while first == (said := _last_timeline(bn)) or '"label":"second"' not in said:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        building.send_signal(signal.SIGINT)
    building.communicate(timeout=60)
    rows = [json.loads(line) for line in _last_timeline(bn).splitlines()]
    told = [(row["event"], row.get("label")) for row in rows]
    started = told.index(("StepStarted", "second"))
    assert rows[started]["reason"] == "file first/word changed (line 1)"
    assert told.index(("StepFinished", "first")) < started
    end = ("Interrupted", None) if stopped else ("StepFinished", "second")
    assert started < told.index(end)


def _last_timeline(bn: Bn) -> str:
    place = max((bn.store / "builds").iterdir()) / "timeline.jsonl"
    return place.read_text() if place.exists() else ""
