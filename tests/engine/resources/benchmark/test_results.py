"""Results: what is kept, read again, compared, advised, and when it is due."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve

from engine.resources.benchmark import compare
from engine.resources.benchmark.advice import advice
from engine.resources.benchmark.chart import Bar, Group, svg_chart, text_chart
from engine.resources.benchmark.due import Schedule, due, due_lines, why_not_idle
from engine.resources.benchmark.kept import directory, history, keep, speeds
from engine.resources.benchmark.report import charted, compared, history_lines, lines
from engine.resources.benchmark.results import (
    document,
    latest,
    measure,
    runs_of,
    show_value,
)
from engine.resources.discover import discover_compute
from tests.engine.resources.benchmark.samples import DAY, run
from tests.engine.resources.conftest import Tree

CPU = run("cpu", 5.0, values={"single": 1.5, "multi": 5.5}, way="typescript", busy=0.0)
DISK = run("storage", 6.0, values={"score": 700.0, "latency": 5e-5}, target="/store")


def test_median_and_spread() -> None:
    one = measure("cpu.single", "BPU", [1.0, 1.2, 1.1])
    assert (one.value, one.samples) == (1.1, 3)
    assert one.spread == pytest.approx(0.2 / 1.1)


def test_one_sample_of_many_may_lie_far_off() -> None:
    one = measure("network.latency", "s", [1.0] * 9 + [50.0])
    assert (one.value, one.spread, one.samples) == (1.0, 0.0, 10)


def test_what_is_written_is_read_again() -> None:
    told = json.loads(json.dumps(document([CPU, DISK])))
    assert runs_of(told) == [CPU, DISK]


@pytest.mark.parametrize("told", [{}, {"format": 99, "runs": []}, {"format": 1, "runs": [{}]}, []])
def test_what_is_no_result_is_refused(told: object) -> None:
    with pytest.raises(ValueError):
        runs_of(told)


def test_history_is_kept(tmp_path: Path) -> None:
    assert history(tmp_path) == []
    keep([CPU], tmp_path)
    keep([evolve(DISK, time=1.0)], tmp_path)
    assert history(tmp_path) == [evolve(DISK, time=1.0), CPU]


def test_line_that_a_crash_cut_off_costs_only_itself(tmp_path: Path) -> None:
    keep([CPU], tmp_path)
    path = directory(tmp_path) / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-20] + b"\n")
    keep([DISK], tmp_path)
    assert history(tmp_path) == [DISK]


def test_speeds_of_kinds_of_cores(tmp_path: Path) -> None:
    assert speeds(tmp_path, "here") == {}
    keep([CPU, DISK], tmp_path)
    assert speeds(tmp_path, "here") == {"": 1.5}
    assert speeds(tmp_path, "elsewhere") == {}
    kinds = {"single.performance": 2.0, "single.efficiency": 1.2, "multi": 20.0}
    keep([run("cpu", 9.0, values=kinds)], tmp_path)
    assert speeds(tmp_path, "here") == {"performance": 2.0, "efficiency": 1.2}


def test_last_run_of_each_target() -> None:
    other = evolve(DISK, target="/other")
    newer = evolve(DISK, time=9.0)
    assert latest([newer, CPU, DISK, other]) == [CPU, other, newer]


def test_nothing_known_means_all_is_due() -> None:
    wanted = due([], Schedule(), "here", 0.0, [Path("/store")], ["http://cache"])
    assert wanted.cpu
    assert wanted.memory
    assert wanted.storage == (Path("/store"),)
    assert wanted.network == ("http://cache",)


def test_schedule() -> None:
    runs = [run(kind, 0.0, target=t) for kind, t in (("cpu", ""), ("memory", ""))]
    runs += [run("storage", 0.0, target="/store"), run("network", 0.0, target="http://cache")]

    def at(days: float, **more: float) -> tuple[bool, bool, int, int]:
        schedule = Schedule(**more)  # type: ignore[arg-type]
        told = due(runs, schedule, "here", days * DAY, [Path("/store")], ["http://cache"])
        return told.cpu, told.memory, len(told.storage), len(told.network)

    assert at(0.9) == (False, False, 0, 0)
    assert at(1) == (False, False, 0, 1)
    assert at(7) == (False, False, 1, 1)
    assert at(30) == (True, True, 1, 1)
    assert at(99, cpu_days=0, network_days=0) == (False, True, 1, 0)


def test_what_is_due_in_words() -> None:
    runs = [run("cpu", 0.0), run("storage", 32 * DAY, target="/store")]

    def at(days: float) -> list[str]:
        plan = Schedule(memory_days=0)
        return due_lines(runs, plan, "here", days * DAY, [Path("/store")], ["http://cache"])

    assert at(31) == [
        "cpu: measured 31 days ago, meant to be every 30 days",
        "network http://cache: never measured",
    ]
    assert "storage /store: measured 8 days ago, meant to be every 7 days" in at(40)


def test_runs_of_others_do_not_count() -> None:
    assert due([run("cpu", 0.0, node="other")], Schedule(), "here", 1.0, [], []).cpu


def test_idle(tree: Tree) -> None:
    told = why_not_idle(discover_compute(tree("vm")))
    assert told
    assert "cpu" in told
    calm = "some avg10=0.00 avg60=1.00 avg300=0.00 total=1"
    quiet = {"proc/pressure/cpu": calm, "proc/pressure/io": calm, "proc/loadavg": "0.1 0 0 1/1 1"}
    assert why_not_idle(discover_compute(tree("vm", quiet))) is None
    loaded = why_not_idle(discover_compute(tree("vm", quiet | {"proc/loadavg": "3 0 0 1/1 1"})))
    assert loaded == "the load is 3.0 on 2 threads"


def test_advice_on_a_slow_disk() -> None:
    slow = evolve(DISK, measures=run("storage", values={"score": 150.0}).measures)
    (told,) = advice([slow], Path("/store/bn"))
    assert told.startswith("the store is on a disk as slow as an HDD (150 of 1000)")
    disk = evolve(slow, about={"type": "HDD"})
    assert advice([disk], Path("/store"))[0].startswith("the store is on an HDD (150 of 1000): ")
    (told,) = advice([slow], Path("/home"))
    assert told.startswith("/store is on a disk")


def test_advice_to_use_the_faster_disk() -> None:
    fast = run("storage", values={"score": 900.0}, target="/fast")
    fair = run("storage", values={"score": 500.0}, target="/store")
    (told,) = advice([fast, fair], Path("/store"))
    assert told.startswith("/fast is faster (900)")


@pytest.mark.parametrize(
    ("values", "way", "busy", "expected"),
    [
        ({"single": 1.0, "multi": 3.9}, "typescript", 0.0, None),
        ({"single": 1.0, "multi": 1.5}, "typescript", 0.0, "1.5 cores of 4"),
        ({"single": 1.0, "multi": 3.9}, "mix", 0.0, "install node"),
        ({"single": 1.0, "multi": 3.9}, "typescript", 0.5, "50% busy"),
        ({"single": (1.0, 0.4), "multi": 3.9}, "typescript", 0.0, "varied by 40%"),
        (
            {"single.performance": 1.8, "single.efficiency": 1.0, "multi": 9.0},
            "typescript",
            0.0,
            "1.8× an efficiency core",
        ),
    ],
)
def test_advice_on_processors(
    values: dict[str, float], way: str, busy: float, expected: str | None
) -> None:
    told = advice([run("cpu", values=values, way=way, busy=busy)])
    assert len(told) == (expected is not None)
    assert expected is None or expected in told[0]


def test_advice_on_networks() -> None:
    slow = run("network", values={"score": 100.0, "latency": 0.2}, target="http://far")
    far = run("network", values={"score": 400.0, "latency": 0.03}, target="http://far")
    near = run("network", values={"score": 900.0, "latency": 0.001}, target="http://near")
    assert "slow (100 of 1000)" in advice([slow])[0]
    assert "30 ms away" in advice([far])[0]
    assert advice([near]) == []


def test_comparison() -> None:
    other = run("cpu", node="other", values={"single": (3.0, 0.02), "multi": 5.6})
    far = run("storage", node="other", values={"latency": 1e-4}, target="/disk")
    rows = {row.name: row for row in compare.compare([CPU, DISK], [other, far])}
    assert rows["cpu.single"].ratio == 0.5
    assert rows["cpu.single"].sure
    assert not rows["cpu.multi"].sure, "2 % apart is no difference"
    assert rows["storage.latency"].ratio == pytest.approx(2.0), "less is better"
    assert rows["storage.score"].ratio is None
    table = compared(list(rows.values()), "here", "other")
    assert any("other 2.00×" in line for line in table)
    assert any("not measured on both" in line for line in table)


def test_reference_is_1_by_definition() -> None:
    rows = {row.name: row for row in compare.compare([CPU], compare.reference())}
    assert rows["cpu.single"].ratio == 1.5


def test_best_possible() -> None:
    other = run("cpu", node="other", values={"single": 3.0, "multi": 9.0})
    best = compare.best([CPU, DISK, other], "here")
    rows = {row.name: row for row in compare.compare([CPU, DISK], best)}
    single, multi, score = (
        rows[name].second for name in ("cpu.single", "cpu.multi", "storage.score")
    )
    assert single
    assert multi
    assert score
    assert single.value == 3.0, "the best of all that are known"
    assert multi.value == 6.0, "all four threads as fast as one alone"
    known = compare.best(compare.reference(), compare.REFERENCE)
    (row,) = [row for row in compare.compare(known, []) if row.name == "cpu.multi"]
    assert row.first
    assert row.first.value == 12, "threads of an i5-10400"
    assert score.value == 1000


def test_ways_that_differ_are_noticed() -> None:
    assert compare.same_way([CPU], [CPU])
    assert compare.same_way([CPU], compare.reference())
    assert not compare.same_way([CPU], [evolve(CPU, way="mix")])
    before = evolve(CPU, way="mix", time=1.0)
    assert compare.same_way([before, CPU], [CPU]), "what was measured last is compared"


def test_reports() -> None:
    busy = evolve(DISK, busy=0.4)
    shown = "\n".join(lines([evolve(CPU, notes=("a note",), busy=0.2), busy]))
    assert "other work held it up for 20% of the time" in shown
    assert "other work had 40% of the processors" in shown
    assert "BPU ±20%" in shown
    assert "cpu.single" in shown
    assert "note: a note" in shown
    later = evolve(CPU, time=9.0, measures=run("cpu", values={"single": 3.0}).measures)
    told = list(history_lines([later, CPU]))
    assert "cpu.single 3.00 BPU (+100%)" in told[1]
    assert list(history_lines([later, CPU], "memory")) == []


def test_charts() -> None:
    groups = charted([CPU, DISK, run("memory", values={"single": 2e10, "multi": 4e10})])
    assert [group.heading for group in groups] == [
        "one core (BPU)", "all threads (BPU)", "memory", "scores (of 1000)"
    ]  # fmt: skip
    reference = groups[0].bars[-1]
    assert reference.name == "i5-10400"
    assert reference.share == pytest.approx(1 / 1.5)
    drawn = text_chart(groups, 60)
    assert max(map(len, drawn)) <= 60
    full = next(line for line in drawn if "1.50 BPU" in line)
    part = next(line for line in drawn if "1.00 BPU" in line)
    assert full.count("█") > part.count("█") > 0


def test_svg_is_well_formed_whatever_names_hold() -> None:
    from xml.etree import ElementTree

    bars = [
        Bar(name='<a&"b">', share=2.0, text="1 < 2", spread=9.0),
        Bar(name="x", share=0.0, text="0"),
    ]
    root = ElementTree.fromstring(svg_chart('<title & "more">', [Group("<g>", bars)]))
    assert root.tag.endswith("svg")
    width = float(root.attrib["width"])
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.234, "BPU", "1.23 BPU"),
        (3.456e9, "B/s", "3.46 GB/s"),
        (1.5e8, "B/s", "150 MB/s"),
        (4.62e-5, "s", "46.2 µs"),
        (0.0123, "s", "12.3 ms"),
        (39814.8, "1/s", "39,815 /s"),
        (693.0, "points", "693 of 1000"),
    ],
)
def test_values_for_people(value: float, unit: str, shown: str) -> None:
    assert show_value(value, unit) == shown
