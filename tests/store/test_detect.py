"""Detection of storage, from recorded /proc and /sys trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.detect import detect_level, mounted
from store.measure import Speed
from store.probe import latency
from store.tiers import HDD, NETWORK, NVME, RAM, SSD


class Machine:
    """A root directory with /proc and /sys as a machine showed them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.here = root / "data"
        self.here.mkdir()

    def mount(self, device: str, kind: str, options: str = "rw") -> Machine:
        """Mount what is to be detected."""
        self.put("proc/self/mounts", f"/dev/root / ext4 rw 0 0\n{device} {self.here} {kind} ")
        with (self.root / "proc/self/mounts").open("a") as file:
            file.write(f"{options} 0 0\n")
        return self

    def put(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def disk(self, name: str, rotational: int | None, *parts: str, number: str = "8:0") -> Machine:
        """Plug in a disk with partitions."""
        block = self.root / "sys/devices/virtual" / name
        block.mkdir(parents=True)
        self.put(f"sys/devices/virtual/{name}/dev", number)
        if rotational is not None:
            self.put(f"sys/devices/virtual/{name}/queue/rotational", f"{rotational}\n")
        known = self.root / "sys/class/block"
        known.mkdir(parents=True, exist_ok=True)
        (known / name).symlink_to(block)
        for part in parts:
            (block / part).mkdir()
            (known / part).symlink_to(block / part)
        return self

    def mapped(self, name: str, *slaves: str) -> Machine:
        """Map disks onto one that says of itself only that it does not rotate."""
        self.disk(name, 0)
        for slave in slaves:
            (self.root / "sys/class/block" / name / "slaves" / slave).mkdir(parents=True)
        return self

    def level(self, seconds: float | None = None) -> int:
        """Return what is detected, on a disk of that latency."""
        return detect_level(self.here, self.root, lambda path, device: seconds)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("tmpfs", RAM),
        ("ramfs", RAM),
        ("nfs4", NETWORK),
        ("cifs", NETWORK),
        ("smb3", NETWORK),
        ("9p", NETWORK),
        ("fuse.sshfs", NETWORK),
    ],
)
def test_file_systems_that_say_all(machine: Machine, kind: str, level: int) -> None:
    assert machine.mount("server:/export", kind).level() == level


@pytest.mark.parametrize(
    ("device", "rotational", "level"),
    [
        ("nvme0n1", 0, NVME),
        ("nvme0n1", 1, NVME),
        ("sda", 0, SSD),
        ("sda", 1, HDD),
        ("sr0", None, 2),
    ],
)
def test_disks(machine: Machine, device: str, rotational: int | None, level: int) -> None:
    assert machine.disk(device, rotational).mount(f"/dev/{device}", "ext4").level() == level


def test_partition_has_its_disks_flag(machine: Machine) -> None:
    assert machine.disk("sda", 1, "sda1").mount("/dev/sda1", "xfs").level() == HDD


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(37e-6, NVME), (400e-6, SSD), (8e-3, HDD), (2e-3, HDD), (None, HDD)],
)
def test_rotational_flag_is_checked_by_latency(
    machine: Machine, seconds: float | None, level: int
) -> None:
    assert machine.disk("vda", 1).mount("/dev/vda", "ext4").level(seconds) == level


def test_flag_of_a_solid_disk_is_believed(machine: Machine) -> None:
    assert machine.disk("sda", 0).mount("/dev/sda", "btrfs").level(37e-6) == SSD


def test_slowest_member_counts(machine: Machine) -> None:
    machine.disk("sda", 0, "sda1").disk("sdb", 1, "sdb1").mapped("md0", "sda1", "sdb1")
    assert machine.mapped("dm-0", "md0").mount("/dev/dm-0", "ext4").level() == HDD


def test_mapped_nvme_disks(machine: Machine) -> None:
    machine.disk("nvme0n1", 0).disk("nvme1n1", 0).mapped("dm-3", "nvme0n1", "nvme1n1")
    (machine.root / "dev/mapper").mkdir(parents=True)
    (machine.root / "dev/mapper/vault").symlink_to("../dm-3")
    assert machine.mount("/dev/mapper/vault", "ext4").level() == NVME


def test_loop_device_is_where_its_file_is(machine: Machine) -> None:
    machine.disk("loop0", 1).mount("/dev/loop0", "ext4")
    image = machine.root / "image"
    image.touch()
    machine.put("sys/class/block/loop0/loop/backing_file", f"{image}\n")
    machine.disk("nvme0n1", 0)
    mounts = (machine.root / "proc/self/mounts").read_text().replace("/dev/root", "/dev/nvme0n1")
    machine.put("proc/self/mounts", mounts)
    assert machine.level() == NVME


def test_pool_is_what_its_members_are(machine: Machine) -> None:
    machine.disk("sda", 1, number="8:16").mount("tank/data", "zfs")
    machine.put("run/udev/data/b8:16", "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank\n")
    assert machine.level() == HDD


def test_overlay_is_where_its_upper_directory_is(machine: Machine, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    machine.mount("overlay", "overlay", f"rw,lowerdir=/a:/b,upperdir={upper},workdir=/w")
    machine.disk("nvme0n1", 0)
    mounts = (machine.root / "proc/self/mounts").read_text().replace("/dev/root", "/dev/nvme0n1")
    machine.put("proc/self/mounts", mounts)
    assert machine.level() == NVME


def test_overlay_that_shows_nothing_is_asked_its_latency(machine: Machine) -> None:
    machine.mount("overlay", "overlay", "rw,lowerdir=/a")
    assert machine.level(50e-6) == NVME
    assert machine.level(None) == SSD


def test_spaces_in_mount_points(machine: Machine) -> None:
    machine.put("proc/self/mounts", "/dev/root / ext4 rw 0 0\ntmpfs /a\\040b tmpfs rw 0 0\n")
    assert mounted(Path("/"), machine.root).kind == "ext4"
    directory = machine.root / "a b"
    directory.mkdir()
    line = str(directory).replace(" ", "\\040")
    machine.put("proc/self/mounts", f"/dev/root / ext4 rw 0 0\ntmpfs {line} tmpfs rw 0 0\n")
    assert mounted(directory / "not" / "yet", machine.root).kind == "tmpfs"


def test_latency_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    seconds = latency(tmp_path / "not" / "yet")
    assert seconds is None or 0 < seconds < 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wait", "read", "write", "score"),
    [(8e-3, 150e6, 140e6, 152), (20e-6, 3.5e9, 3e9, 853), (1e-6, 2e10, 2e10, 1000)],
)
def test_score(wait: float, read: float, write: float, score: int) -> None:
    assert Speed(latency=wait, read=read, write=write, time=0).score == score
