"""Builds on nodes that the configuration makes of this machine: where actions really run, what is
said of it, and limits of memory that the kernel sets."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.e2e.conftest import SECONDS, Bn
from tests.e2e.test_placement import ALL, SHOW, TWO, allowed, started, two_and_one

INPUT = 3


def split(bn: Bn, more: str = "") -> None:
    """Make two nodes of this machine's first two processors."""
    first, second = ALL[:2]
    bn.put(
        "bn.toml",
        f"""
        {more}
        [[resources.nodes]]
        name = "fast"
        cpus = "{first}"
        speed = 2.0

        [[resources.nodes]]
        name = "slow"
        cpus = "{second}"
        speed = 1.0
        """,
    )


@TWO
@pytest.mark.parametrize("executor", ["sandbox", "bubblewrap", "native"])
def test_actions_run_on_the_threads_of_their_node(bn: Bn, executor: str) -> None:
    two_and_one(bn)
    split(bn)
    bn("build", "--executor", executor)
    cpus = {"fast": {ALL[0]}, "slow": {ALL[1]}}
    said = allowed(bn)
    assert said["a"] != said["b"]
    for name, told in started(bn, "a", "b", "last").items():
        placement = told["placement"]
        assert said[name] == cpus[placement["node"]] == set(placement["cpus"])
        assert placement["speed"] == {"fast": 2.0, "slow": 1.0}[placement["node"]]
    assert "on slow: " in bn("explain", "a").stdout + bn("explain", "b").stdout


@TWO
def test_a_target_has_a_node_of_its_own(bn: Bn) -> None:
    two_and_one(bn)
    split(bn)
    config = bn.directory / "bn.toml"
    text = config.read_text().replace("speed = 1.0", 'only = ["a"]')
    config.write_text(text.replace("speed = 2.0", 'only = ["b", "last"]'))
    spec = bn.directory / "spec.toml"
    spec.write_text(spec.read_text().replace('inputs = ["a", "b"]', 'inputs = ["b"]'))
    spec.write_text(spec.read_text().replace("cp a/a b/b $out;", "cp b/b $out; echo > $out/a;"))
    bn("build", "a", "b")
    nodes = {name: told["placement"]["node"] for name, told in started(bn, *"ab").items()}
    assert nodes == {"a": "slow", "b": "fast"}
    config.write_text(text)
    bn.put("bn.toml", text.replace("speed = 2.0", 'preference = "disabled"'))
    spec = bn.directory / "spec.toml"
    spec.write_text(spec.read_text().replace("sleep 0.4", "sleep 0.3"))
    said = bn("build", "b", code=INPUT).stderr
    assert "b: no node is for it" in said
    assert "bn.toml" in said


@TWO
def test_strategies_and_modes_of_the_command_line(bn: Bn) -> None:
    two_and_one(bn)
    split(bn, '[placement]\nstrategy = "least_loaded"\n')
    said = bn("build", "--explain").stderr
    assert "by least_loaded: 1.000; then slow 1.000" in said
    spec = bn.directory / "spec.toml"
    spec.write_text(spec.read_text().replace("sleep 0.4", "sleep 0.3"))
    said = bn("build", "--explain", "--strategy", "smart").stderr
    assert "speed 1.00×0.45" in said
    assert "then slow 0.775" in said
    said = bn("test", "--explain", "--mode", "unified").stderr
    assert "cached   last" in said
    spec.write_text(spec.read_text().replace("sleep 0.3", "sleep 0.2"))
    said = bn("test", "--explain", "--mode", "thermal").stderr
    assert "start a: " in said
    assert "plan " in said
    assert "°C" in said or "no sensor: heat counts as neutral" in said


@TWO
def test_nodes_of_builds_are_shown(bn: Bn) -> None:
    split(bn, "[placement]\nlimit = 70\n")
    said = bn("node", "show").stdout
    assert f"fast: 1 slot, pinned to {ALL[0]}," in said
    assert "2.00 BPU" in said
    fast, slow = bn.json("node", "show")["builds"]
    assert (fast["name"], fast["pinned"], fast["limit"]) == ("fast", [ALL[0]], 70.0)
    assert slow["speed"] == 1.0


def test_schema_of_the_configuration(bn: Bn) -> None:
    schema = bn.json("schema", "--config")
    jsonschema.validators.validator_for(schema).check_schema(schema)
    split(bn, '[placement]\nmode = "thermal"\nmax_wait = 2.5\n')
    document = tomllib.loads((bn.directory / "bn.toml").read_text())
    jsonschema.validate(document, schema)
    document["placement"]["mod"] = "thermal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_faults_of_placement_are_placed(bn: Bn) -> None:
    two_and_one(bn)
    bn.put("bn.toml", '[placement]\nmode = "cold"\n[placement.weights]\nspeeed = 1\n')
    said = bn("build", code=INPUT).stderr
    assert "bn.toml:4" in said
    assert "hint" in said


@pytest.fixture
def small() -> Iterator[Path]:
    """A control group for memory, below the one that this process is in, limited to 300 MiB."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = [line.partition(":memory:")[2] for line in lines if ":memory:" in line]
    if not own:
        pytest.skip("needs the memory controller of control groups, version 1")
    group = Path(f"/sys/fs/cgroup/memory{own[0]}") / f"bn-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs a control group that may be divided")
    try:
        (group / "memory.limit_in_bytes").write_text(str(300 << 20))
        yield group
    finally:
        with contextlib.suppress(OSError):
            for process in (group / "cgroup.procs").read_text().split():
                (group.parent / "cgroup.procs").write_text(process)
            group.rmdir()


def test_what_does_not_fit_into_the_control_group_waits(bn: Bn, small: Path) -> None:
    """Two of these actions do not fit at a time: that is known of them after the first build."""
    said = ""
    for name, jobs in (("once", "1"), ("again", "2")):
        actions = "".join(
            f"""
            [actions.{one}]
            tools = ["sh"]
            script = '''
              : {name}; ({SHOW}) > $out/{one}
              x=0123456789abcdef; i=0
              while [ $i -lt 22 ]; do x=$x$x; i=$((i + 1)); done; sleep 0.5
            '''
            outputs = ["{one}"]
            """
            for one in "ab"
        )
        bn.spec(actions, "a b")
        command = ["sh", "-c", f'echo $$ > {small}/cgroup.procs; exec "$@"', "sh"]
        done = subprocess.run(
            [*command, *bn.command("build", "--explain", "--jobs", jobs)],
            cwd=bn.directory,
            env=bn.env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        said = done.stderr
        assert done.returncode == 0, said
    assert "of memory, as it took when it ran last" in said
    assert "s for memory, until" in said
    assert int((small / "memory.failcnt").read_text()) == 0
