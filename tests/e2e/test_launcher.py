"""The launcher `bn` and its set-up, run for real on copies of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("engine", "executors", "store")
ANOTHER_SET_UP = 300  # seconds; a set-up that compiles pyfuse3 on a slow machine takes about 100


def run(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with captured output; `env` is added to the test's own environment."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ANOTHER_SET_UP,
    )


def packages_of(checkout: Path, environment: Mapping[str, str]) -> list[Path]:
    """Return where the checkout's Python, started as bn starts it, finds each of our packages."""
    names = ", ".join(f"{name}.__file__" for name in PACKAGES)
    script = f"import {', '.join(PACKAGES)}; print({names}, sep='\\n')"
    done = run(checkout / ".venv/bin/python", "-I", "-c", script, env=environment)
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of this checkout that has never been started, at a path with a space in it."""
    copy = tmp_path_factory.mktemp("launcher") / "check out"
    left_out = shutil.ignore_patterns(".venv*", ".git", ".*_cache", "__pycache__", "result")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
    return copy


@pytest.fixture(scope="module")
def started(checkout: Path) -> Path:
    """Return the copy after its first start, made from elsewhere and through a symbolic link."""
    elsewhere = checkout.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to("../check out/bn")
    first = run("./link", "--help", cwd=elsewhere)
    assert first.returncode == 0, first.stderr
    assert "setting up" in first.stderr
    assert "setting up" not in first.stdout
    assert first.stdout.startswith("Usage:")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["link"]
    return checkout


def test_second_start_runs_no_other_program(started: Path) -> None:
    log = started / ".venv/setup.log"
    before = log.stat().st_mtime_ns
    second = run(started / "bn", "--help", env={"PATH": "/nonexistent"})
    assert (second.returncode, second.stderr) == (0, "")
    assert log.stat().st_mtime_ns == before


def test_second_start_costs_little(started: Path) -> None:
    python = (started / ".venv/bin/python", "-I", "-m", "engine.cli.main")

    def fastest(*command: str | Path) -> float:
        times = []
        for _ in range(15):
            begin = time.perf_counter()
            assert run(*command, "--help").returncode == 0
            times.append(time.perf_counter() - begin)
        return min(times)

    assert fastest(started / "bn") - fastest(*python) < 0.030


@pytest.mark.parametrize("package", PACKAGES)
def test_environment_and_directory_cannot_shadow_packages(
    started: Path, tmp_path: Path, package: str
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise SystemExit('not ours')")
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""}
    shadowed = run(sys.executable, "-c", f"import {package}", env=environment, cwd=tmp_path)
    assert "not ours" in shadowed.stderr, "the trap itself must work"

    done = run(started / "bn", "--help", env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert packages_of(started, environment) == [
        started.resolve() / name / "__init__.py" for name in PACKAGES
    ]


def test_dependencies_that_were_only_touched_are_not_installed_again(started: Path) -> None:
    log = started / ".venv/setup.log"
    before = log.stat().st_mtime_ns
    (started / "pyproject.toml").touch()
    assert run(started / "bn", "--help").stderr == ""
    assert log.stat().st_mtime_ns == before
    assert run(started / "bn", "--help", env={"PATH": "/nonexistent"}).returncode == 0


def test_changed_dependencies_are_installed(started: Path) -> None:
    with (started / "constraints.txt").open("a") as constraints:
        constraints.write("no-such-distribution==1\n")
    changed = run(started / "bn", "--help")
    assert changed.returncode == 0
    assert "setting up" in changed.stderr
    assert run(started / "bn", "--help").stderr == ""


def test_copied_checkout_survives_an_interrupted_set_up_and_two_first_starts(
    started: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(started, copy, symlinks=True)
    command = (copy / "bn", "--help")

    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE) as interrupted:
        deadline = time.monotonic() + ANOTHER_SET_UP
        while not (copy / ".venv/begun").exists():
            assert time.monotonic() < deadline
            assert interrupted.poll() is None, "the copy was taken for ready"
            time.sleep(0.01)
        os.killpg(interrupted.pid, signal.SIGKILL)
    assert not (copy / ".venv/ready").exists()

    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=ANOTHER_SET_UP) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("setting up /" in errors for _, errors in said) == 1, said
    assert packages_of(copy, {}) == [copy.resolve() / name / "__init__.py" for name in PACKAGES]


def test_pip_installs_the_command(tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (tmp_path / "venv/bin/python", "-I", "-m", "pip", "install", "--quiet")
    installed = run(*pip, "--constraint", ROOT / "constraints.txt", ROOT)
    assert installed.returncode == 0, installed.stderr
    done = run(tmp_path / "venv/bin/bn", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


# What the set-up does about system packages is tried with stand-ins for apt and its like.


def stand_ins(directory: Path, **scripts: str) -> dict[str, str]:
    """Return an environment whose PATH begins with these commands."""
    directory.mkdir()
    for name, script in scripts.items():
        command = directory / name.replace("_", "-")
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def install_system_packages(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run("sh", "-euc", ". .ci/setup.sh; install_system_packages", env=environment, cwd=ROOT)


def test_missing_system_packages_are_installed_where_sudo_may(tmp_path: Path) -> None:
    environment = stand_ins(
        tmp_path / "bin",
        dpkg_query='case $* in *bubblewrap) ;; *) printf "/installed/" ;; esac',
        id="echo 1000",
        sudo='[ "$1" = -n ] && shift && exec "$@"',
        apt_get=f'echo "$@" >> "{tmp_path}/apt"',
    )
    done = install_system_packages(environment)
    assert done.returncode == 0, done.stderr
    update, install = (tmp_path / "apt").read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install --no-install-recommends bubblewrap")


def test_missing_system_packages_are_named_where_nobody_may(tmp_path: Path) -> None:
    environment = stand_ins(
        tmp_path / "bin",
        dpkg_query="case $* in *make|*mawk) printf /config-files/ ;; *) printf /installed/ ;; esac",
        id="echo 1000",
        sudo="exit 1",
        apt_get="exit 1",
    )
    done = install_system_packages(environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert "sudo sh -c 'apt-get update && apt-get install -y make mawk'" in done.stderr


def test_failing_apt_does_not_stop_the_set_up(tmp_path: Path) -> None:
    environment = stand_ins(
        tmp_path / "bin", dpkg_query="exit 1", id="echo 0", apt_get="echo no route; exit 100"
    )
    done = install_system_packages(environment)
    assert done.returncode == 0
    assert "no route" in done.stderr
    assert "going on without" in done.stderr


def test_set_up_installs_what_the_toolchains_import() -> None:
    text = (ROOT / ".ci/setup.sh").read_text()
    found = re.search(r'^system_packages="(.*?)"', text, re.DOTALL | re.MULTILINE)
    assert found
    for path in sorted((ROOT / "specs/toolchains").glob("host-*.toml")):
        imported = tomllib.loads(path.read_text())["toolchain"]["debian"]
        assert set(imported) <= set(found[1].split()), path.name


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9-]+==[0-9][0-9a-z.]*", line)
    ] == []
