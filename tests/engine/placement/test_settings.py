"""`[placement]` and `[[resources.nodes]]`: what they come to, and where their faults are."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.placement.cluster import PREFERENCES as VALUES
from engine.placement.model import LIMIT, Weights
from engine.placement.modes import MODES as POLICIES
from engine.placement.modes import policy_of
from engine.placement.settings import PlacementTable, WeightsTable, placing
from engine.places import places_of
from engine.policies import MODES, PREFERENCES, STRATEGIES
from engine.resources.allocation import Share
from engine.resources.discover import discover_compute
from engine.resources.node_settings import NodeSpec
from engine.resources.settings import Resources, placement, resources
from engine.spec.faults import SpecError
from store.errors import InputError
from tests.engine.test_places import machine


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a user's configuration; its bn.toml."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project/bn.toml"


def test_names_are_those_that_there_are() -> None:
    assert set(MODES) == set(POLICIES)
    for name in (*MODES, *STRATEGIES):
        assert policy_of(name).strategy in STRATEGIES
    assert {"", *PREFERENCES} == set(VALUES)


def test_nothing_said() -> None:
    told = placing(())
    assert not told.asked
    assert (told.policy, told.limit) == (policy_of("unified"), LIMIT)


def test_a_strategy_counts_more_than_a_mode_and_the_command_line_most() -> None:
    table = PlacementTable(mode="cache-first", strategy="locality", max_wait=3.0, limit=70.0)
    told = placing([table])
    assert (told.policy.strategy, told.policy.max_wait, told.limit) == ("locality", 3.0, 70.0)
    assert told.policy.weights == policy_of("cache-first").weights
    assert placing([table], strategy="fastest").policy.strategy == "fastest"
    by_mode = placing([table], mode="thermal").policy
    assert (by_mode.strategy, by_mode.heat, by_mode.max_wait) == ("portfolio", 2.0, 3.0)
    assert placing([], mode="target-isolated").isolated


def test_weights_lie_over_those_of_the_mode() -> None:
    tables = [
        PlacementTable(mode="cache-first", weights=WeightsTable(speed=0.5, cost=0.9)),
        PlacementTable(weights=WeightsTable(speed=0.6)),
    ]
    assert placing(tables).policy.weights == Weights(speed=0.6, locality=0.65, load=0.15, price=0.9)


def test_nodes_of_a_file(project: Path) -> None:
    project.write_text(
        """
        [placement]
        strategy = "least_loaded"
        max_wait = 4

        [[resources.nodes]]
        name = "fast"
        cpus = "0-1"
        speed = 2
        memory = "1GB"
        preference = "preferred"
        limit = 75

        [[resources.nodes]]
        name = "slow"
        cpus = "3"
        only = ["docs"]
        sensor = "coretemp/Package id 0"
        """
    )
    wanted = resources()
    assert wanted.pin == "share"
    fast, slow = wanted.nodes
    assert (fast.cpus, fast.speed, fast.memory) == ((0, 1), 2.0, 10**9)
    assert (slow.only, slow.sensor, slow.where) == (
        ("docs",),
        "coretemp/Package id 0",
        str(project),
    )
    found = places_of(machine(4), wanted, {"": 1.5}, None, placement())
    assert found.asked
    assert found.policy.strategy == "least_loaded"
    assert [(one.name, one.cpus, one.speed, one.preference) for one in found.nodes] == [
        ("fast", 2, 2.0, "preferred"),
        ("slow", 1, 1.5, ""),
    ]
    assert [(one.memory, one.limit, one.only) for one in found.nodes] == [
        (10**9, 75.0, ()),
        (found.memory, LIMIT, ("docs",)),
    ]
    assert [one.cpu for one in found.threads["fast"]] == [0, 1]
    assert places_of(machine(4), wanted, {}, 1).cpus == 1


def test_the_project_lies_over_the_user_by_name_of_node(project: Path, tmp_path: Path) -> None:
    (tmp_path / "user/bn").mkdir(parents=True)
    (tmp_path / "user/bn/config.toml").write_text(
        '[[resources.nodes]]\nname = "a"\ncpus = "0"\nspeed = 3\n'
    )
    project.write_text('[[resources.nodes]]\nname = "a"\npreference = "avoid"\n')
    (one,) = resources().nodes
    assert (one.cpus, one.speed, one.preference) == ((0,), 3.0, "avoid")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[placement]\nmode = "termal"', ("2:8", "unknown mode 'termal'", "thermal")),
        ('[placement]\nstrategy = "best"', ("2:12", "'best'", "known: fastest")),
        ("[placement]\nmax_wait = -1", ("2:12", "less than 0")),
        ("[placement]\nlimit = 300", ("2:9", "no limit", "between 20 and 120")),
        ("[placement]\nsample_seconds = 0.01", ("too often", "at least 0.5")),
        ("[placement.weights]\nspeed = -1", ("2:9", "0 or more")),
        (
            "[placement.weights]\nspeed = 0\nlocality = 0\nload = 0\ncost = 0",
            ("nothing would count",),
        ),
        ("[placement]\nstratgy = 1", ("stratgy", "strategy")),
        ("[[resources.nodes]]\ncpus = '0'", ("name",)),
        ("[[resources.nodes]]\nname = 'a'\ncpus = 'x'", ("3:8", "cannot read 'x'", "0-3,8")),
        ("[[resources.nodes]]\nname = 'a'\nspeed = 0", ("3:9", "more than 0", "BPU")),
        (
            "[[resources.nodes]]\nname = 'a'\npreference = 'prefered'",
            ("3:14", "'prefered'", "preferred"),
        ),
        ("[[resources.nodes]]\nname = 'a'\nonly = []", ("no target", "disabled")),
        ("[[resources.nodes]]\nname = 'a'\nlimit = 5", ("3:9", "5 °C")),
        ("[[resources.nodes]]\nname = 'a'\nmemory = '3 apples'", ("3:10", "not a size")),
        (
            "[[resources.nodes]]\nname='a'\ncpus='0'\n[[resources.nodes]]\nname='b'\ncpus='0-1'",
            ("6:6", "'a'"),
        ),
        ("[[resources.nodes]]\nname='a'\n[[resources.nodes]]\nname='a'", ("4:6", "two nodes")),
        (
            "[resources]\naffinity = { test = '0' }\n[[resources.nodes]]\nname = 'a'\ncpus = '0'",
            ("threads already", "only = [targets]"),
        ),
    ],
)
def test_faults_are_placed(project: Path, text: str, said: tuple[str, ...]) -> None:
    project.write_text(text + "\n")
    with pytest.raises(SpecError) as caught:
        resources()
    for part in ("bn.toml", *said):
        assert part in caught.value.render()


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((NodeSpec(name="far", cpus=(90,)),), "no node has a processor"),
        ((NodeSpec(name="local", preference="disabled"),), "all nodes are disabled"),
        ((NodeSpec(name="fats", speed=2.0, where="bn.toml"),), "no such node: local"),
    ],
)
def test_without_a_node_it_is_an_error(nodes: tuple[NodeSpec, ...], said: str) -> None:
    wanted = Resources(share=Share(), pin="share", nodes=nodes)
    with pytest.raises(InputError) as caught:
        places_of(discover_compute(), wanted, {}, None)
    assert said in caught.value.render()


def test_kinds_that_this_machine_does_not_have_are_no_error() -> None:
    avoided = NodeSpec(name="local.efficiency", preference="avoid")
    wanted = Resources(share=Share(), pin="kinds", nodes=(avoided,))
    assert [one.name for one in places_of(machine(2), wanted, {}, None).nodes] == ["local"]
    both = places_of(machine(2, 2), wanted, {}, None).nodes
    assert [one.preference for one in both] == ["", "avoid"]
