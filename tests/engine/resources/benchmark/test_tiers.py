"""Speeds of tiers: one history, whoever measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from engine.resources.benchmark.kept import history
from engine.resources.benchmark.others import Others
from engine.resources.benchmark.results import Run
from engine.resources.benchmark.session import Setting, Wanted, run_all
from engine.resources.benchmark.tiers import held_by, keep_storage, score, speed_of
from engine.resources.discover import discover_compute
from store import measure
from store.measure import SEEDS, Latencies, Speed
from store.store import Store
from store.tier_records import LEVEL_NAMES
from store.tiers import HDD, NVME, RAM
from tests.engine.resources.benchmark.samples import run
from tests.engine.resources.conftest import Tree


def storage(time: float, score: float, target: Path, **about: str) -> Run:
    values = {"score": score}
    return run("storage", time, values=values, target=str(target), about=about)


def test_last_run_on_the_file_system_counts(tmp_path: Path) -> None:
    here = held_by(tmp_path)
    there = {**here, "device": "/dev/elsewhere"}
    beside = tmp_path / "beside"
    tier = tmp_path / "tier"
    runs = [
        storage(1.0, 500.0, tier),
        storage(3.0, 600.0, beside, **here),
        storage(9.0, 100.0, beside, **there),
        evolve(storage(9.0, 100.0, tier), node="other"),
        evolve(storage(9.0, 100.0, tier), measures=()),
    ]
    found = speed_of(runs, tier, "here")
    assert found == runs[1]
    assert score(found, NVME) == 600
    assert speed_of(runs, tier, "nowhere") is None


def test_scores_of_tiers_that_nobody_measured() -> None:
    assert [score(None, level) for level in (RAM, NVME, HDD)] == [1000, 850, 150]
    assert len(SEEDS) == 5


def test_what_is_measured_of_a_tier_is_kept_and_found(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        root = store.cas.primary.root
        setting = Setting(kept=tmp_path, quick=True)
        (one,) = run_all(discover_compute(), Wanted(storage=(root,)), setting, lambda _: None)
        keep_storage(one, store.root, store.index)
        assert sorted(path.name for path in root.iterdir() if path.is_file()) in ([], ["format"])
    assert one.about["type"] in LEVEL_NAMES
    assert speed_of(history(tmp_path / "store"), root, one.node) == one


def test_latency_that_types_follow_from_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "store") as store:
        root = store.root
    told = iter([0.009, 0.002, 0.00009, 0.004])
    monkeypatch.setattr(measure, "latency", lambda _: next(told))
    assert Latencies(root)(root, "/dev/x") == 0.009
    assert Latencies(root)(root, "/dev/x") == 0.009, "measured once"
    Latencies(root).renew(root, "/dev/x")
    assert Latencies(root)(root, "/dev/x") == 0.00009, "the least of three"


def test_store_that_was_not_made_yet_is_not_made(tmp_path: Path) -> None:
    Latencies(tmp_path / "none").renew(tmp_path, "/dev/x")
    assert not (tmp_path / "none").exists()


def test_others_are_all_but_this_process(tree: Tree) -> None:
    root = tree("vm", {"proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\n"})
    others = Others(root)
    (root / "proc/stat").write_text("cpu  100000 0 100 100800 0 0 0 0 5 5\n")
    share = others.share()
    assert share is not None
    assert 0.49 < share <= 0.5, "half of all time, less what this process had"
    assert Others(tree()).share() is None, "nothing tells"


@pytest.mark.parametrize("speed", [Speed(write=1e10, read=1e10, latency=1e-5, time=0.0)])
def test_ram_disk_is_the_top_of_the_scale(speed: Speed) -> None:
    assert speed.score == 1000
