"""Tiers that fill, vanish or turn read-only while a build runs: real file systems, real faults."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

Disk = Callable[[str, str], Path]

CHAIN = """
    [sources.src]
    path = "src"
    [actions.first]
    tools = ["sh"]
    inputs = ["src:*"]
    script = "sleep {seconds}; cp src/text $out/first"
    outputs = ["first"]
    [actions.last]
    tools = ["sh"]
    inputs = ["first"]
    script = "cat first/first first/first > $out/last"
    outputs = ["last"]
    """


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a disk for a tier: name and options of tmpfs, or "ext4" → directory."""
    mounted: list[Path] = []

    def mount(name: str, options: str) -> Path:
        point = tmp_path / "disks" / name
        point.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "bn-test", str(point)]
        if options == "ext4":
            image = point.with_suffix(".img")
            subprocess.run(["truncate", "-s", "200M", str(image)], check=True)
            subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
            command = ["mount", "-o", "loop,errors=remount-ro", str(image), str(point)]
        subprocess.run(command, check=True)
        mounted.append(point)
        return point

    yield mount
    for point in mounted:
        with contextlib.suppress(OSError):
            while os.path.ismount(point):
                subprocess.run(["umount", "-l", str(point)], check=True)


def configure(bn: Bn, **tiers: tuple[Path, str]) -> None:
    """Write the project's bn.toml: tiers by name, with their directories and types."""
    tables = (
        f'[tiers.{name}]\npath = "{path}"\ntype = "{kind}"\n'
        for name, (path, kind) in tiers.items()
    )
    bn.put("bn.toml", "".join(tables))


def chain(bn: Bn, seconds: float) -> None:
    """Write a spec of two steps; the first one takes a while."""
    bn.put("src/text", "some text\n")
    bn.spec(CHAIN.replace("{seconds}", str(seconds)), "last")


def events(bn: Bn, kind: str) -> list[dict[str, Any]]:
    """Return all events of one kind of all builds."""
    logs = sorted((bn.store / "builds").glob("*/timeline.jsonl"))
    found = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [event for event in found if event["event"] == kind]


def dropped(bn: Bn) -> set[tuple[str, str]]:
    """Return the tiers that the timelines say dropped out, with their states."""
    return {(event["tier"], event["state"]) for event in events(bn, "TierDropped")}


def while_first_runs(bn: Bn, fault: Callable[[], object]) -> str:
    """Build; when the first step has started let `fault` happen; return what bn said."""
    before = len(events(bn, "StepStarted"))
    process = bn.start("build")
    end = time.monotonic() + 60
    while process.poll() is None and len(events(bn, "StepStarted")) == before:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.2)
    fault()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def left_over(tier: Path) -> list[str]:
    """Return what is unfinished in a tier."""
    found = [path.name for place in ("tmp", "work") for path in (tier / place).rglob("*")]
    return [name for name in found if name[0] != "t"]  # but the directories for temporaries


@pytest.mark.parametrize(
    "options",
    ["size=3m", "size=9m", "size=80m,nr_inodes=330", "size=80m,nr_inodes=600"],
)
def test_tier_full_at_any_moment(cold_bn: Bn, disk: Disk, tmp_path: Path, options: str) -> None:
    fast = disk("fast", options)
    configure(cold_bn, fast=(fast, "nvme"), big=(tmp_path / "big", "ssd"))
    chain(cold_bn, 0)
    cold_bn("build")
    assert cold_bn.result("last") == "some text\nsome text\n"
    assert not left_over(fast)
    assert not left_over(tmp_path / "big")
    assert cold_bn.ran() == set()


def test_tier_full_by_the_output_of_an_action(cold_bn: Bn, disk: Disk, tmp_path: Path) -> None:
    fast = disk("fast", "size=60m")
    configure(cold_bn, fast=(fast, "nvme"), big=(tmp_path / "big", "hdd"))
    cold_bn.spec(
        """
        [actions.large]
        tools = ["sh"]
        script = "head -c 70000000 /dev/zero > $out/large; echo done > $out/small"
        outputs = ["large", "small"]
        """
    )
    said = cold_bn("build").stderr
    assert "tier fast is full" in said
    assert cold_bn.result("small") == "done\n"
    assert (cold_bn.directory / "result/large").stat().st_size == 70_000_000
    assert ("fast", "full") in dropped(cold_bn)


@pytest.mark.parametrize(
    ("command", "state", "kind"),
    [
        (["mount", "-o", "remount,abort"], "read-only", "ssd"),
        (["umount", "-l"], "gone", "ssd"),
        (["umount", "-l"], "gone", "hdd"),
    ],
)
def test_tier_fails_in_mid_build(
    cold_bn: Bn, disk: Disk, tmp_path: Path, command: list[str], state: str, kind: str
) -> None:
    fast = disk("fast", "ext4")
    configure(cold_bn, fast=(fast, "nvme"), slow=(tmp_path / "slow", kind))
    chain(cold_bn, 1)
    said = while_first_runs(cold_bn, lambda: subprocess.run([*command, str(fast)], check=True))
    assert f"tier fast is {state}" in said
    assert cold_bn.result("last") == "some text\nsome text\n"
    assert ("fast", state) in dropped(cold_bn)
    assert cold_bn.ran() == set()


def test_ram_disk_vanishes(cold_bn: Bn, disk: Disk, tmp_path: Path) -> None:
    ram = disk("ram", "size=50m,mode=700")
    configure(cold_bn, ram=(ram, "ram"), main=(tmp_path / "main", "nvme"))
    chain(cold_bn, 0)
    for number in range(3):
        cold_bn.put("src/text", f"text {number}\n")
        cold_bn("build")
    assert any((ram / "blobs").glob("??/*"))
    chain(cold_bn, 1)
    cold_bn.put("src/text", "once more\n")
    while_first_runs(cold_bn, lambda: subprocess.run(["umount", "-l", str(ram)], check=True))
    assert cold_bn.result("last") == "once more\nonce more\n"
    assert cold_bn.ran() == set()


def test_ram_disk_of_somebody_else_is_not_trusted(cold_bn: Bn, tmp_path: Path) -> None:
    ram = tmp_path / "ram"
    (ram / "blobs" / "ff").mkdir(parents=True)
    os.chown(ram, 1234, 1234)
    configure(cold_bn, ram=(ram, "ram"), main=(tmp_path / "main", "nvme"))
    chain(cold_bn, 0)
    said = cold_bn("build").stderr
    assert "tier ram is gone: belongs to somebody else" in said


def test_slow_tier_vanishes_with_all_that_it_alone_has(
    cold_bn: Bn, disk: Disk, tmp_path: Path
) -> None:
    slow = disk("slow", "size=200m")
    main = tmp_path / "main"
    configure(cold_bn, main=(main, "nvme"), slow=(slow, "hdd"))
    chain(cold_bn, 3)
    cold_bn("build")
    demote_all(cold_bn, main)
    assert list((slow / "blobs").glob("??/*.zst"))
    cold_bn.put("src/text", "other text\n")

    def unplug() -> None:
        promoted = -1
        while promoted != (promoted := len(list((main / "blobs").glob("??/*")))):
            time.sleep(0.5)  # until all that the step is made of is there
        subprocess.run(["umount", "-l", str(slow)], check=True)

    while_first_runs(cold_bn, unplug)
    assert cold_bn.result("last") == "other text\nother text\n"
    cold_bn.put("src/text", "some text\n")
    assert cold_bn.ran() == {"last"}, "the source has the bytes that first left"


def demote_all(bn: Bn, main: Path) -> None:
    """Let everything look cold and move it to the slow tier."""
    shutil.rmtree(main / "trees")
    (bn.directory / "result").unlink()
    text = (bn.directory / "bn.toml").read_text()
    bn.put("bn.toml", f"[store]\ncold_threshold_hours = 0\n{text}")
    bn("store", "migrate")
    bn.put("bn.toml", text)
    assert not list((main / "blobs").glob("??/*"))


@pytest.mark.parametrize("size", ["600k", "3m", "9m"])
def test_store_itself_full(cold_bn: Bn, disk: Disk, size: str) -> None:
    root = disk("store", f"size={size}")
    cold_bn.store = root
    cold_bn.env = {**cold_bn.env, "BN_STORE": str(root)}
    chain(cold_bn, 0)
    error = cold_bn.json("build", code=4)["error"]
    assert error["class"] == "HostError"
    assert "space" in error["hint"] + error["message"]
    subprocess.run(["mount", "-o", "remount,size=200m", str(root)], check=True)
    cold_bn("build")
    assert cold_bn.result("last") == "some text\nsome text\n"
    assert not left_over(root)
    for blob in (root / "blobs").glob("??/*"):
        said = subprocess.run(["sha256sum", str(blob)], capture_output=True, check=True)
        assert said.stdout
