"""The records of a machine: processors, memory, disks, networks, sensors, and its limits.

What could not be found is None (or empty), and `Machine.absent` says why. Sizes are in bytes,
clocks in hertz, temperatures in degrees Celsius, speeds of networks in bits a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from store.records import field, frozen

Absent = dict[str, str]
"""Name of a fact that is not known, as `sensors` or `cpu.clock`, and why."""

PERFORMANCE = "performance"
EFFICIENCY = "efficiency"


@frozen(kw_only=True)
class Core:
    """A physical core: its hardware threads by number, lowest first, and where it sits.

    `id` is the number of its first thread, which is unique where the kernel's core numbers are not.
    `capacity` is the kernel's estimate, 1024 for the machine's best.
    """

    id: int
    cpus: tuple[int, ...]
    package: int
    node: int | None
    max_hz: int | None = None
    base_hz: int | None = None
    now_hz: int | None = None
    capacity: int | None = None


@frozen(kw_only=True)
class CoreClass:
    """Cores of one kind; a machine with one kind has one class without a name."""

    name: str
    cores: tuple[int, ...]
    cpus: tuple[int, ...]
    told_by: str


@frozen(kw_only=True)
class Cache:
    """A cache and the threads that share it; `kind` is data, instruction or unified."""

    level: int
    kind: str
    size: int
    cpus: tuple[int, ...]


@frozen(kw_only=True)
class Cpu:
    """All processors. `offline` are threads that are there but switched off."""

    model: str | None
    architecture: str | None
    virtual: bool
    cores: tuple[Core, ...]
    classes: tuple[CoreClass, ...]
    caches: tuple[Cache, ...]
    offline: tuple[int, ...] = ()
    throttled: int | None = None

    @property
    def cpus(self) -> tuple[int, ...]:
        """The threads that are online."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))

    @property
    def packages(self) -> tuple[int, ...]:
        """The numbers of the packages (sockets)."""
        return tuple(sorted({core.package for core in self.cores}))

    def last_level(self, cpu: int) -> Cache | None:
        """Return the largest cache that a thread can use, None where caches are not known."""
        mine = [one for one in self.caches if cpu in one.cpus]
        return max(mine, key=lambda one: one.level, default=None)


@frozen(kw_only=True)
class Node:
    """A NUMA node; `distances` are to all nodes in order, 10 to itself."""

    id: int
    cpus: tuple[int, ...]
    memory: int | None
    free: int | None
    distances: tuple[int, ...] = ()


@frozen(kw_only=True)
class Memory:
    """Main memory as the kernel tells it; `available` is what can be had without swapping."""

    total: int | None
    available: int | None
    swap: int | None
    swap_free: int | None


@frozen(kw_only=True)
class Limits:
    """What the control groups and the affinity leave to this process.

    `quota` is in processors; `cpus` are those of the cpuset, `affinity` those of the process.
    `hierarchy` is v1, v2, or none. None means not limited.
    """

    hierarchy: str
    quota: float | None
    cpus: tuple[int, ...] | None
    affinity: tuple[int, ...] | None
    memory: int | None
    memory_used: int | None
    processes: int | None


@frozen(kw_only=True)
class Sensor:
    """A temperature; `high` and `critical` are the limits that the hardware tells."""

    chip: str
    label: str
    celsius: float
    high: float | None = None
    critical: float | None = None
    told_by: str = "hwmon"


@frozen(kw_only=True)
class Stall:
    """The share of time that work waited for something, percent over 10, 60 and 300 seconds."""

    avg10: float
    avg60: float
    avg300: float


@frozen(kw_only=True)
class Pressure:
    """Stall information for one of cpu, memory, io: some of the work waited, or all of it did."""

    resource: str
    some: Stall | None
    full: Stall | None


@frozen(kw_only=True)
class Load:
    """Averages of runnable processes, and the share of time (0–1) that a hypervisor took away."""

    one: float | None
    five: float | None
    fifteen: float | None
    stolen: float | None


@frozen(kw_only=True)
class Interface:
    """A network interface: ethernet, wireless, loopback, bridge or virtual; up, down or unknown."""

    name: str
    kind: str
    state: str
    speed: int | None
    mtu: int | None


@frozen(kw_only=True)
class Storage:
    """A file system in use, and the type of what holds it: ram, nvme, ssd, hdd or network."""

    point: str
    device: str
    filesystem: str
    type: str
    size: int | None
    free: int | None


@frozen(kw_only=True)
class Gpu:
    """A graphics processor; `driver` as the kernel calls it."""

    name: str
    vendor: str
    driver: str | None
    memory: int | None
    memory_used: int | None
    celsius: float | None
    told_by: str


@frozen(kw_only=True)
class Machine:
    """One machine as it is now."""

    name: str
    kernel: str | None
    cpu: Cpu
    nodes: tuple[Node, ...]
    memory: Memory
    limits: Limits
    pressure: tuple[Pressure, ...]
    load: Load
    sensors: tuple[Sensor, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    storage: tuple[Storage, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    absent: Mapping[str, str] = field(factory=dict)

    @property
    def usable_cpus(self) -> tuple[int, ...]:
        """The threads that this process may run on: online, in the cpuset and in the affinity."""
        return _both(_both(self.cpu.cpus, self.limits.cpus), self.limits.affinity)

    @property
    def share(self) -> float:
        """How many processors' worth of time may be used: the usable threads, or the quota."""
        count = float(len(self.usable_cpus))
        return count if self.limits.quota is None else min(count, self.limits.quota)

    @property
    def usable_memory(self) -> int | None:
        """The bytes that may be used: the machine's, or the control group's limit."""
        known = [one for one in (self.memory.total, self.limits.memory) if one is not None]
        return min(known, default=None)

    @property
    def celsius(self) -> float | None:
        """The temperature of the processors: the hottest of their sensors; None without one."""
        return processor_celsius(self.sensors)


CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu", "x86_pkg_temp", "soc", "bcm2835", "pkg")
"""How the names of sensors begin that are on the processor."""


def processor_celsius(sensors: Iterable[Sensor]) -> float | None:
    """Return the highest temperature that a sensor on the processor tells, None without one."""
    return max((one.celsius for one in sensors if on_processor(one)), default=None)


def on_processor(sensor: Sensor) -> bool:
    """Say whether a sensor is on the processor."""
    return sensor.chip.lower().startswith(CPU_CHIPS)


def _both(cpus: tuple[int, ...], allowed: tuple[int, ...] | None) -> tuple[int, ...]:
    if allowed is None:
        return cpus
    known = frozenset(allowed)
    return tuple(cpu for cpu in cpus if cpu in known)
