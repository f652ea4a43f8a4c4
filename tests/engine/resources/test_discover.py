"""Discovery from recorded trees of real machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import asdict

import engine
from engine.resources.discover import discover, discover_compute
from engine.resources.machine import Machine
from engine.resources.nodes import local_nodes
from engine.resources.show import overview, topology
from tests.engine.resources.conftest import MACHINES, Tree

NAMES = sorted(path.stem for path in MACHINES.glob("*.txt"))


def classes(machine: Machine) -> dict[str, tuple[int, int]]:
    """Return cores and threads by kind."""
    return {kind.name: (len(kind.cores), len(kind.cpus)) for kind in machine.cpu.classes}


def test_laptop_with_two_kinds_of_cores(tree: Tree) -> None:
    machine = discover(tree("laptop"))
    assert machine.cpu.model == "13th Gen Intel(R) Core(TM) i7-1370P"
    assert machine.cpu.architecture == "x86_64"
    assert not machine.cpu.virtual
    assert len(machine.cpu.packages) == 1
    assert classes(machine) == {"performance": (6, 12), "efficiency": (8, 8)}
    assert {kind.told_by for kind in machine.cpu.classes} == {"highest clock"}
    fastest = max(machine.cpu.cores, key=lambda core: core.max_hz or 0)
    assert (fastest.max_hz, fastest.base_hz) == (5_200_000_000, 1_900_000_000)
    assert machine.cpu.last_level(19) == machine.cpu.last_level(0)
    clusters = [cache for cache in machine.cpu.caches if cache.level == 2 and len(cache.cpus) == 4]
    assert [cache.cpus for cache in clusters] == [(12, 13, 14, 15), (16, 17, 18, 19)]
    assert machine.memory.total == 32489496 * 1024
    assert machine.limits.hierarchy == "none"
    assert machine.usable_cpus == tuple(range(20))


def test_kernel_that_names_the_kinds(tree: Tree) -> None:
    named = {"sys/devices/cpu_core/cpus": "0-11", "sys/devices/cpu_atom/cpus": "12-19"}
    machine = discover(tree("laptop", named))
    assert classes(machine) == {"performance": (6, 12), "efficiency": (8, 8)}
    assert {kind.told_by for kind in machine.cpu.classes} == {"/sys/devices/cpu_atom"}


def test_kinds_by_capacity(tree: Tree) -> None:
    machine = discover(tree("bigarm"))
    assert machine.cpu.architecture == "aarch64"
    assert classes(machine) == {"performance": (10, 10), "efficiency": (10, 10)}
    assert {kind.told_by for kind in machine.cpu.classes} == {"cpu_capacity"}


def test_server_with_two_sockets(tree: Tree) -> None:
    machine = discover(tree("server"))
    assert machine.cpu.packages == (0, 1)
    assert classes(machine) == {"": (16, 16)}
    assert [node.cpus for node in machine.nodes] == [tuple(range(8)), tuple(range(8, 16))]
    assert [node.distances for node in machine.nodes] == [(10, 21), (21, 10)]
    assert machine.nodes[1].memory == 16 * 2**30
    assert machine.cpu.throttled == 0
    assert machine.memory.available is None
    assert "3.14" in machine.absent["memory.available"]
    kinds = {one.point: one.type for one in machine.storage}
    assert kinds["/"] == kinds["/tmp"] == "hdd"
    assert kinds["/scratch"] == kinds["/admin"] == "network"
    assert kinds["/dev/shm"] == "ram"
    links = {one.name: (one.kind, one.state, one.speed) for one in machine.interfaces}
    assert links["eth0"] == ("ethernet", "up", 10**9)
    assert links["eth1"] == ("ethernet", "down", None)
    assert links["ib0"][0] == "infiniband"


def test_eight_nodes_told_by_masks(tree: Tree) -> None:
    machine = discover(tree("epyc"))
    assert len(machine.cpu.cores) == 48
    assert len(machine.cpu.cpus) == 96
    assert len(machine.nodes) == 8
    assert {len(node.cpus) for node in machine.nodes} == {12}
    assert machine.cpu.cores[0].cpus == (0, 48)
    assert {core.package for core in machine.cpu.cores if core.node == 7} == {1}
    assert machine.memory.total is None
    assert machine.absent["memory"]
    third = [cache for cache in machine.cpu.caches if cache.level == 3]
    assert {cache.size for cache in third} == {8 * 2**20}
    assert all(len(cache.cpus) == 6 for cache in third)


def test_raspberry(tree: Tree) -> None:
    machine = discover(tree("raspberry"))
    assert machine.name == "raspberrypi"
    assert machine.cpu.model == "ARM Cortex-A72 · Raspberry Pi 4 Model B Rev 1.1"
    assert machine.cpu.architecture == "arm"
    assert classes(machine) == {"": (4, 4)}
    assert machine.celsius == pytest.approx(35.05)
    assert len(machine.sensors) == 1, "the thermal zone tells of the same sensor"
    assert {one.point: one.type for one in machine.storage} == {"/": "ssd", "/dev/shm": "ram"}
    assert "cpu.caches" in machine.absent
    assert "nodes" in machine.absent


def test_virtual_machine_without_sensors(tree: Tree) -> None:
    machine = discover(tree("vm"))
    assert machine.cpu.virtual
    assert machine.celsius is None
    for name in ("sensors", "gpus", "cpu.clock", "interfaces.speed", "limits.quota"):
        assert machine.absent[name]
    assert machine.limits.hierarchy == "v1"
    assert machine.limits.memory is None, "what version 1 says without a limit is none"
    assert machine.share == 2
    cpu, memory, io = machine.pressure
    assert (cpu.resource, memory.resource, io.resource) == ("cpu", "memory", "io")
    assert cpu.some
    assert cpu.some.avg10 == 73.32
    assert machine.load.stolen
    assert machine.load.stolen < 0.01
    assert [one.kind for one in machine.interfaces] == [
        "ethernet", "virtual", "virtual", "loopback"
    ]  # fmt: skip


def test_where_nothing_can_be_read_all_has_a_reason(tree: Tree) -> None:
    machine = discover(tree())
    assert machine.cpu.cores == ()
    assert machine.usable_cpus == ()
    expected = {"cpu", "memory", "nodes", "limits", "pressure", "load", "sensors"}
    assert expected | {"gpus", "storage", "interfaces"} <= machine.absent.keys()
    assert local_nodes(machine) == ()
    assert overview(machine, ())


@pytest.mark.parametrize("name", NAMES)
def test_every_machine_is_shown_and_written(tree: Tree, name: str) -> None:
    machine = discover(tree(name))
    nodes = local_nodes(machine)
    shown = "\n".join(overview(machine, nodes))
    assert str(len(machine.cpu.cores)) in shown
    assert nodes[0].name in shown
    assert json.loads(json.dumps(asdict(machine)))["cpu"]["cores"]
    told = topology(machine)
    assert sum("core " in line for line in told) == len(machine.cpu.cores)
    assert sum(line.startswith("package") for line in told) == len(machine.cpu.packages)


def several(count: int, block: str) -> str:
    """Return /proc/cpuinfo with the same said of each of some processors."""
    return "\n\n".join(f"processor : {cpu}\n{block}" for cpu in range(count))


POWER = "cpu : POWER9, altivec supported\nclock : 2166.000000MHz"
BOARD = "\n\ntimebase : 512000000\nplatform : PowerNV\nmachine : PowerNV 8335-GTW"
RISCV = "hart : 1\nisa : rv64imafdc_zicntr\nmmu : sv39\nuarch : sifive,u74-mc"
S390 = "vendor_id : IBM/S390\n# processors : 3\nprocessor 0: version = FF, machine = 2817"
LOONGSON = "CPU Family : Loongson-64bit\nModel Name : Loongson-3A5000-HV\nCPU MHz : 2500.00"
ZERO = (
    "model name : ARMv6-compatible processor rev 7 (v6l)\nFeatures : half thumb vfp\n"
    "CPU implementer : 0x41\nCPU architecture: 7\nCPU part : 0xb76"
)


@pytest.mark.parametrize(
    ("info", "model", "architecture"),
    [
        (several(2, POWER) + BOARD, "POWER9, altivec supported · PowerNV 8335-GTW", "ppc64"),
        (several(2, RISCV), "sifive,u74-mc", "riscv64"),
        (S390, "IBM/S390", "s390x"),
        (several(4, LOONGSON), "Loongson-3A5000-HV", "loongarch64"),
        (several(1, ZERO) + "\n\nHardware : BCM2708", "ARM ARM1176 · BCM2708", "arm"),
        (several(1, "CPU implementer : 0x99\nCPU part : 0x1"), "implementer 0x99, part 0x1", None),
        ("flags : fpu lm", None, "x86_64"),
        ("", None, None),
    ],
)
def test_names_of_other_processors(
    tree: Tree, info: str, model: str | None, architecture: str | None
) -> None:
    cpu = discover(tree(more={"proc/cpuinfo": info})).cpu
    assert (cpu.model, cpu.architecture) == (model, architecture)
    known = discover(tree(more={"proc/cpuinfo": info, "proc/sys/kernel/arch": "ppc64le"}))
    assert known.cpu.architecture == "ppc64le", "the kernel's own word"


def test_clock_of_power_is_told_in_other_words(tree: Tree) -> None:
    (one, _) = discover(tree(more={"proc/cpuinfo": several(2, POWER)})).cpu.cores
    assert one.now_hz == 2_166_000_000


def test_all_kinds_of_cores_are_named(tree: Tree) -> None:
    assert discover(tree("bigarm")).cpu.model == "ARM Cortex-A725 + ARM Cortex-X925"
    apple = "CPU implementer : 0x61\nCPU architecture: 8\nFeatures : fp asimd\nCPU part : "
    blocks = (f"processor : {cpu}\n{apple}{0x22 + cpu // 2:#05x}" for cpu in range(4))
    capacities = {
        f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": "1024" if cpu > 1 else "714"
        for cpu in range(4)
    }
    board = {"proc/device-tree/model": "Apple MacBook Air (M1, 2020)"}
    machine = discover(tree(more={"proc/cpuinfo": "\n\n".join(blocks), **capacities, **board}))
    assert machine.cpu.model == (
        "Apple M1 Icestorm + Apple M1 Firestorm · Apple MacBook Air (M1, 2020)"
    )
    assert classes(machine) == {"performance": (2, 2), "efficiency": (2, 2)}


def test_nodes_that_the_kernel_made_up_are_one(tree: Tree) -> None:
    """As a Raspberry Pi 5 has them: parts of its memory, each with all processors."""
    nodes = {}
    for node in range(4):
        place = f"sys/devices/system/node/node{node}"
        nodes[f"{place}/cpulist"] = "0-3"
        nodes[f"{place}/distance"] = "10 10 10 10"
        nodes[f"{place}/meminfo"] = f"Node {node} MemTotal: 1048576 kB"
    machine = discover(tree("raspberry", nodes))
    (whole,) = machine.nodes
    assert (whole.cpus, whole.memory, whole.distances) == ((0, 1, 2, 3), 4 * 2**30, (10,))
    assert {core.node for core in machine.cpu.cores} == {0}
    assert "4 of the same processors" in machine.absent["nodes.emulated"]


@pytest.mark.parametrize(
    "more",
    [
        {"sys/hypervisor/type": "xen"},
        {"sys/class/dmi/id/sys_vendor": "QEMU"},
        {"sys/class/dmi/id/product_name": "VMware Virtual Platform"},
        {"proc/device-tree/hypervisor/compatible": "linux,kvm"},
    ],
)
def test_hypervisors_without_a_flag(tree: Tree, more: dict[str, str]) -> None:
    assert not discover(tree("raspberry")).cpu.virtual
    assert discover(tree("raspberry", more)).cpu.virtual


def test_processor_that_old_kernels_say_is_off(tree: Tree) -> None:
    system = "sys/devices/system/cpu"
    more = {f"{system}/cpu{cpu}/topology/physical_package_id": "0" for cpu in range(4)}
    more |= {f"{system}/cpu2/online": "0", f"{system}/cpu3/online": "1"}
    machine = discover(tree(more=more))
    assert machine.cpu.cpus == (0, 1, 3)
    assert machine.cpu.offline == (2,)


def test_what_is_missing_is_told_in_the_overview(tree: Tree) -> None:
    machine = discover(tree("vm"))
    shown = "\n".join(overview(machine, local_nodes(machine)))
    assert "now 2.60 GHz" in shown, "what the kernel tells, though it does not set it"
    laptop = discover(tree("laptop"))
    assert "up to 5.00–5.20 GHz, base 1.90" in "\n".join(overview(laptop, local_nodes(laptop)))
    assert "sensors   not known: neither /sys/class/hwmon" in shown
    assert "speed not measured" in shown


def test_this_machine() -> None:
    machine = discover_compute(Path("/"))
    assert machine.usable_cpus
    assert machine.share >= 0.01
    assert machine.memory.total


def test_processor_that_is_offline(tree: Tree) -> None:
    root = tree("laptop", {"sys/devices/system/cpu/online": "0-11,13-19"})
    machine = discover(root)
    assert machine.cpu.offline == (12,)
    assert 12 not in machine.usable_cpus
    assert classes(machine)["efficiency"] == (7, 7)


def test_what_placement_needs_is_quick_to_load() -> None:
    """A build may ask for its nodes: that must not load what takes longer than to read them."""
    code = (
        "from engine.resources.discover import discover_compute; "
        "from engine.resources.nodes import local_nodes; "
        "from engine.resources.allocation import allocate; "
        "from engine.resources.benchmark.kept import speeds; "
        "allocate(discover_compute()); local_nodes(discover_compute(), speeds()); "
        "import sys; print(sorted({'attr', 'cattrs', 'click', 'httpx', 'trio'} & set(sys.modules)))"
    )
    root = Path(engine.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
