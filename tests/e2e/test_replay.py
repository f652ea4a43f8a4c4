"""`bn replay` and `bn build --check`: what does not reproduce is found, and what kind it is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from executors.perturbed import clock
from store.store import Store
from tests.e2e.conftest import Bn

NOT_REPRODUCIBLE = 6
HOST = 4

WAYS = {
    "same": ("echo constant", "", ""),
    "time": ("date +%s.%N", "a time stamp", "usual surroundings"),
    "random": ("cat /proc/sys/kernel/random/uuid", "something random", "usual surroundings"),
    "times": ("touch x; ls -l --full-time x", "a time stamp", "usual surroundings"),
    "directory": ("ls -U src", "the order", "another order"),
    "host": ("cat /proc/sys/kernel/hostname", "the host's name", "another host name"),
    "processors": (
        "grep Cpus_allowed_list /proc/self/status",
        "the number of processors",
        "another number of processors",
    ),
    "address": ("grep -m1 heap /proc/self/maps", "an address", "other addresses"),
    "race": (
        "for x in a b; do (for n in $(seq 20000); do echo $x; done) & done; wait",
        "the order: the same lines",
        "",
    ),
    "pid": ("echo $$", "", ""),
    "locale": ("echo $LANG $LC_ALL; printf 'b\\nA\\na\\n' | sort", "", ""),
}
"""Name → command, how its kind begins, what makes it come out otherwise; empty: harmless."""


@pytest.fixture
def ways(bn: Bn) -> Bn:
    """A project with an action for each way not to reproduce."""
    text = '[sources.src]\npath = "src"\n'
    for name, (command, _, _) in WAYS.items():
        text += f"[actions.{name}]\ntools = ['sh']\ninputs = ['src:**']\n"
        text += f"script = '''({command}) > {{out}}/{name}'''\noutputs = ['{name}']\n"
    for name in "dbac":
        bn.put(f"src/{name}", name)
    bn.spec(text)
    return bn


def test_ten_ways_not_to_reproduce(ways: Bn) -> None:
    ways("build", *WAYS)
    found = ways.json("replay", "--perturb", code=NOT_REPRODUCIBLE)
    assert not found["same"]
    by_label = {one["recorded"]["label"]: one for one in found["actions"]}
    assert set(by_label) == set(WAYS)
    for name, (_, kind, because) in WAYS.items():
        other = by_label[name]["other"]
        if not kind:
            assert other is None, (name, other)
            assert by_label[name]["runs"] == 2
            continue
        (difference,) = other["differences"]
        assert difference["path"] == name
        assert difference["kind"].startswith(kind), (name, difference)
        assert because in by_label[name]["because"], (name, by_label[name]["because"])


def test_the_report_for_people_and_for_ci(ways: Bn) -> None:
    ways("build", "same", "random")
    page = ways.directory / "page.md"
    done = ways("replay", "--junit", "r.xml", "--markdown", "page.md", code=NOT_REPRODUCIBLE)
    assert "random (the first that differs):" in done.stdout
    assert re.search(r"random, byte \d+: something random", done.stdout)
    assert "2 actions, 2 runs" in done.stderr
    recorded, replayed = (
        Path(line.split()[1]) / "random"
        for line in done.stdout.splitlines()
        if line.strip().startswith(("recorded:", "replayed:"))
    )
    assert recorded.read_text() != replayed.read_text()
    suite = ElementTree.parse(ways.directory / "r.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert {case.get("name"): len(case) for case in suite} == {"same": 0, "random": 1}
    assert "| `random` |" in page.read_text()
    with Store(ways.store) as store:
        kept = {key for key, _ in store.index.items("roots") if key.startswith("replay/")}  # type: ignore[arg-type]
    assert len(kept) == 2


def test_sources_may_change_and_go(ways: Bn) -> None:
    ways("build", "same", "directory")
    shutil.rmtree(ways.directory / "src")
    (ways.directory / "spec.toml").unlink()
    assert "2 the same" in ways("replay").stderr
    assert "1 the same" in ways("replay", "last", "same").stderr
    assert "3 runs" in ways("replay", "--sample", "1", "--times", "3").stderr


def test_cached_steps_are_replayed_unless_only_what_ran_is_asked_for(ways: Bn) -> None:
    ways("build", "same")
    ways("build", "same", "locale")
    assert "2 actions" in ways("replay").stderr
    assert "1 actions" in ways("replay", "--ran").stderr
    assert "1 actions" in ways("replay", "last~1", "--ran").stderr


def test_check_replays_what_was_built(ways: Bn) -> None:
    ways("build", "--check", "same")
    done = ways("build", "--check", "random", code=NOT_REPRODUCIBLE)
    assert "random (the first that differs)" in done.stderr
    again = ways("build", "--check", "random")
    assert "0 actions" in again.stderr or "up to date" in again.stderr


def test_an_action_that_failed_fails_again(bn: Bn) -> None:
    bn.spec(
        """
        [actions.fails]
        tools = ["sh"]
        script = "echo no; exit 3"
        outputs = []
        """
    )
    bn("build", "fails", code=1)
    assert "1 the same" in bn("replay").stderr


def test_what_is_gone_is_said(ways: Bn) -> None:
    ways("build", "same")
    with Store(ways.store) as store:
        (tree,) = [
            one["recorded"]["action"]
            for one in json.loads(ways("replay", "--json").stdout)["actions"]
        ]
        store.cas.quarantine(tree, False)
    done = ways("replay", code=HOST)
    assert "gone    same" in done.stdout
    assert "cannot be replayed" in done.stderr


def test_bad_input(ways: Bn) -> None:
    assert "no build is recorded" in ways("replay", code=3).stderr
    ways("build", "same")
    assert "did you mean 'same'" in ways("replay", "last", "sane", code=3).stderr
    assert "not recorded" in ways("replay", "2001", code=3).stderr
    assert "--perturb x: unknown" in ways("replay", "--perturb", "x", code=3).stderr
    assert "cannot write the report" in ways("replay", "--junit", "none/x", code=HOST).stderr


@pytest.mark.skipif(clock() is None, reason="libfaketime is not installed")
def test_another_day(bn: Bn) -> None:
    bn.spec(
        """
        [actions.day]
        tools = ["sh"]
        script = "date +%Y-%m-%d > {out}/day"
        outputs = ["day"]
        """
    )
    bn("build", "day")
    (one,) = bn.json("replay", "--perturb", "time", code=NOT_REPRODUCIBLE)["actions"]
    assert one["other"]["differences"][0]["kind"].startswith("a time stamp")
    assert "another day" in one["because"]


def test_the_console_of_a_past_build(ways: Bn) -> None:
    ways("build", "same", "locale")
    done = ways("replay", "--play", "--speed", "100")
    assert "[2/2]" in done.stderr
    assert "ok after" in done.stderr
    assert "--speed" in ways("replay", "--play", "--speed", "0", code=2).stderr
