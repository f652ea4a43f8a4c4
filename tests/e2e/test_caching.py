"""Caching that users trust: nothing runs twice, and nothing that has to run is left out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

ALL = {"compile[src/a.c]", "compile[src/b.c]", "app"}


def test_second_build_runs_nothing_and_says_so(c_project: Bn) -> None:
    assert c_project.ran() == ALL
    assert subprocess.check_output([c_project.directory / "result/bin/app"]) == b"42\n"
    assert c_project.ran() == set()
    assert c_project("build").stderr.startswith("up to date: app")
    assert c_project("build").stderr.startswith("up to date: app")


def test_comment_only_change_stops_after_one_compile(c_project: Bn) -> None:
    c_project("build")
    c_project.put("src/a.c", (c_project.directory / "src/a.c").read_text() + "// a comment\n")
    assert c_project.ran() == {"compile[src/a.c]"}


def test_header_change_reruns_only_what_read_it(c_project: Bn) -> None:
    c_project("build")
    c_project.put("src/b.h", "#define B 43\n")
    assert c_project.ran() == {"compile[src/b.c]", "app"}
    assert subprocess.check_output([c_project.directory / "result/bin/app"]) == b"43\n"


def test_new_header_that_could_shadow_another_is_not_missed(c_project: Bn) -> None:
    c_project("build")
    c_project.put("src/c.h", "")
    assert c_project.ran() == {"compile[src/a.c]", "compile[src/b.c]"}


def test_switching_a_parameter_back_and_forth_reruns_nothing(c_project: Bn) -> None:
    c_project("build")
    assert c_project.ran("--set", "opt=0") == ALL
    assert c_project.ran() == set()
    assert c_project.ran("--set", "opt=0") == set()


def test_deleted_result_comes_from_the_store(c_project: Bn) -> None:
    c_project("build")
    (c_project.directory / "result").unlink()
    assert c_project.ran() == set()
    assert (c_project.directory / "result/bin/app").exists()


def test_moved_project_runs_nothing(c_project: Bn) -> None:
    c_project("build")
    moved = c_project.directory.with_name("moved")
    shutil.copytree(c_project.directory, moved, symlinks=True)
    c_project.directory = moved
    assert c_project.ran() == set()


def test_failed_action_is_not_cached(c_project: Bn) -> None:
    c_project.put("src/b.c", "int b(void) { return nonsense; }\n")
    for _ in range(2):
        steps = c_project.steps("--keep-going", code=1)
        assert steps["compile[src/b.c]"] == "failed"
        assert steps["app"] == "skipped"
    c_project.put("src/b.c", "int b(void) { return 1; }\n")
    assert c_project.ran() == {"compile[src/b.c]", "app"}


def test_failure_shows_log_and_how_to_reproduce(c_project: Bn) -> None:
    c_project.put("src/b.c", "int b(void) { return nonsense; }\n")
    said = c_project("build", code=1).stderr
    assert "nonsense" in said
    assert "reproduce: bn shell" in said
    log = c_project("log", "compile[src/b.c]").stdout
    assert "nonsense" in log
    again = c_project("shell", "compile[src/b.c]", "--run", code=1)
    assert "nonsense" in again.stderr
    frozen = c_project("shell", "-c", "cat src/b.c")
    assert "nonsense" in frozen.stdout


def test_input_that_changes_during_the_build_fails_its_action(bn: Bn) -> None:
    bn.put("data/file", "before")
    bn.put(
        "spec.toml",
        f"""
        [package]
        name = "slow"
        [sources.data]
        path = "data"
        [toolchains]
        sh = "{_toolchain()}"
        [actions.copy]
        inputs = ["data"]
        tools = ["sh"]
        script = "sleep 3; cp data/file $out/file"
        outputs = ["file"]
        """,
    )
    building = subprocess.Popen(
        bn.command("build"), cwd=bn.directory, env=bn.env, stderr=subprocess.PIPE, text=True
    )
    _wait_for_work(bn.store)
    bn.put("data/file", "after")
    _, said = building.communicate(timeout=60)
    assert building.returncode == 1
    assert "changed during the build" in said
    assert bn.ran() == {"copy"}
    assert (bn.directory / "result/file").read_text() == "after"


def test_interrupt_leaves_a_store_that_the_next_build_uses(bn: Bn) -> None:
    bn.put(
        "spec.toml",
        f"""
        [package]
        name = "chain"
        [toolchains]
        sh = "{_toolchain()}"
        [actions.first]
        tools = ["sh"]
        script = "echo one > $out/one"
        outputs = ["one"]
        [actions.second]
        inputs = ["first"]
        tools = ["sh"]
        script = "sleep 4; cp first/one $out/two"
        outputs = ["two"]
        """,
    )
    building = subprocess.Popen(
        bn.command("build"), cwd=bn.directory, env=bn.env, stderr=subprocess.PIPE, text=True
    )
    assert building.stderr is not None
    assert "first" in building.stderr.readline()
    building.send_signal(signal.SIGINT)
    _, said = building.communicate(timeout=60)
    assert building.returncode == 130
    assert "interrupted" in said
    assert not any((bn.store / "work").iterdir())
    assert bn.ran() == {"second"}


def test_kill_leaves_a_store_that_the_next_build_uses(c_project: Bn) -> None:
    building = subprocess.Popen(
        c_project.command("build"),
        cwd=c_project.directory,
        env=c_project.env,
        stderr=subprocess.DEVNULL,
    )
    _wait_for_work(c_project.store)
    building.kill()
    building.wait()
    assert c_project.ran() <= ALL
    assert subprocess.check_output([c_project.directory / "result/bin/app"]) == b"42\n"
    assert not [path for path in (c_project.store / "tmp").rglob("*") if path.name[0] != "t"]


def test_identical_actions_run_once(bn: Bn) -> None:
    twin = """
        [actions.{name}]
        tools = ["sh"]
        script = "sleep 0.2; echo same > $out/same"
        outputs = ["same"]
        """
    bn.put(
        "spec.toml",
        f"""
        [package]
        name = "twins"
        [toolchains]
        sh = "{_toolchain()}"
        {twin.format(name="one")}
        {twin.format(name="other")}
        """,
    )
    assert sorted(bn.steps().values()) == ["built", "cached"]


def test_damaged_blob_is_rebuilt(cold_bn: Bn) -> None:
    from tests.e2e.conftest import C_PROJECT

    for name, text in C_PROJECT.items():
        cold_bn.put(name, text)
    tree = cold_bn.json("build")["result"]
    program = (cold_bn.directory / "result/bin/app").resolve()
    before = program.read_bytes()
    program.chmod(0o755)
    program.write_bytes(b"damaged")
    shutil.rmtree(cold_bn.store / "trees" / tree)
    report = cold_bn.json("build")
    assert report["result"] == tree
    assert (cold_bn.directory / "result/bin/app").read_bytes() == before
    assert any((cold_bn.store / "quarantine").iterdir())


def test_lost_index_costs_only_time(c_project: Bn) -> None:
    first = c_project.json("build")["result"]
    shutil.rmtree(c_project.store / "index")
    assert c_project.json("build")["result"] == first


def test_native_results_are_kept_apart(c_project: Bn) -> None:
    assert c_project.ran() == ALL
    assert c_project.ran("--executor", "native") == ALL
    assert c_project.ran("--executor", "native") == set()
    assert c_project.ran() == set()


def _toolchain() -> Path:
    from tests.e2e.conftest import TOOLCHAINS

    return TOOLCHAINS / "host-sh.toml"


def _wait_for_work(store: Path) -> None:
    """Wait until an action has its directory, that is, its sandbox is being made."""
    limit = time.monotonic() + 60
    while not (store / "work").is_dir() or not os.listdir(store / "work"):
        assert time.monotonic() < limit, "no action was started"
        time.sleep(0.01)
