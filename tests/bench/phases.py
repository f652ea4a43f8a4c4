"""The rounds of a bench: every tool in turn for each phase, and all must leave the same bytes."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field, frozen
from blake3 import blake3

from store.store import remove_tree
from tests.bench.measure import RunFailedError, Usage, run
from tests.bench.model import Workload, write_sources
from tests.bench.peers.base import Peer, Setting

SETTLE: Final = 0.05
"""Seconds between a change to a source and the build after it, so that time stamps tell them."""


class DifferentBytesError(Exception):
    """Two tools made different outputs of the same sources."""


@frozen
class Sample:
    """One measured run."""

    workload: str
    peer: str
    phase: str
    round: int
    usage: Usage


@frozen
class Skipped:
    """A tool that did not take part, or not to the end, and why."""

    workload: str
    peer: str
    reason: str


@frozen(kw_only=True)
class Plan:
    """How much is run: rounds of all tools, of the slow ones, seconds for one run."""

    rounds: int = 5
    slow_rounds: int = 2
    timeout: float = 900.0
    limits: bool = True
    phases: tuple[str, ...] = ()
    seed: int = 0
    sync: bool = True


@define
class Bench:
    """Runs workloads in `directory` and collects what came of it."""

    setting: Setting
    directory: Path
    plan: Plan
    say: Callable[[str], None]
    samples: list[Sample] = field(factory=list)
    skipped: list[Skipped] = field(factory=list)
    failed: list[str] = field(factory=list)
    checked: int = 0
    """Comparisons of the outputs of two tools."""

    def run(self, workload: Workload, kinds: Sequence[type[Peer]]) -> None:
        """Run a workload with all tools that can.

        Raises DifferentBytesError where two of them do not agree.
        """
        self.say(f"{workload.name}: {workload.title}")
        top = self.directory / workload.name
        if top.exists():
            remove_tree(top)
        peers = [kind(self.setting, top / kind.name) for kind in kinds]
        try:
            taking_part = [peer for peer in peers if self._takes_part(peer, workload)]
            for number in range(self.plan.rounds):
                now = [p for p in taking_part if not p.slow or number < self.plan.slow_rounds]
                self._round(workload, now, taking_part, number)
            self._raw(workload, top / "raw")
        finally:
            for peer in peers:
                if hasattr(peer, "workload"):
                    peer.stop()
            remove_tree(top)

    def _takes_part(self, peer: Peer, workload: Workload) -> bool:
        number = len(workload.actions)
        reason = peer.cannot(workload)
        if reason is None and self.plan.limits and peer.most and number > peer.most:
            reason = f"takes too long for {number:,} actions"
        if reason is None:
            try:
                peer.write(workload)
            except subprocess.SubprocessError as error:
                reason = f"cannot be set up: {error}"
        if reason is not None:
            self._skip(workload, peer, reason)
        return reason is None

    def _skip(self, workload: Workload, peer: Peer, reason: str) -> None:
        self.skipped.append(Skipped(workload.name, peer.name, reason))
        self.say(f"  {peer.name} left out: {reason}")

    def _round(
        self, workload: Workload, now: list[Peer], taking_part: list[Peer], number: int
    ) -> None:
        """Run every phase with the tools of `now`; the changes are made for all."""
        rng = random.Random(f"{self.plan.seed} {number}")
        for phase in workload.phases:
            if self.plan.phases and phase not in (*self.plan.phases, "cold"):
                continue
            for peer in now:
                peer.settle()
            edit = workload.edits.get(phase)
            if edit is not None:
                path, text = edit.choose(rng), rng.randrange(10**6, 10**7)
                for peer in taking_part:
                    edit.apply(peer.place(path), text)
                time.sleep(SETTLE)
            elif phase in ("leaf", "comment"):
                continue
            if phase == "cold" and workload.cold_once and number:
                continue
            turned = now[number % len(now) :] + now[: number % len(now)] if now else []
            done = [peer for peer in turned if self._phase(workload, peer, phase, number)]
            for peer in set(turned) - set(done):
                now.remove(peer)
                taking_part.remove(peer)
            self._compare(workload, phase, done)

    def _phase(self, workload: Workload, peer: Peer, phase: str, number: int) -> bool:
        """Run one phase with one tool; say whether it goes on."""
        if phase == "clean" and not peer.cache:
            return True
        try:
            if phase == "cold":
                peer.forget()
            elif phase == "clean":
                peer.clean()
            elif phase == "noop":
                self._timed(peer, phase)
            usage = self._timed(peer, phase)
        except (RunFailedError, subprocess.SubprocessError) as error:
            self._skip(workload, peer, f"{phase}: {error}")
            self.failed.append(f"{workload.name}, {peer.name}, {phase}: {error}")
            return False
        if not peer.told or phase in peer.told:
            self.samples.append(Sample(workload.name, peer.name, phase, number, usage))
        self.say(
            f"  {number + 1} {phase:<8} {peer.name:<14} {usage.seconds:9.3f} s "
            f"{usage.cpu:9.3f} s CPU {usage.memory / 1e6:8.0f} MB"
        )
        return True

    def _timed(self, peer: Peer, phase: str) -> Usage:
        servers = peer.servers()
        if self.plan.sync:
            os.sync()
        log = peer.directory.with_name(f"{peer.name}.{phase}.log")
        return run(
            peer.command(),
            peer.directory,
            peer.env(),
            log,
            self.plan.timeout,
            servers,
            grouped=peer.grouped,
        )

    def _compare(self, workload: Workload, phase: str, peers: Sequence[Peer]) -> None:
        """Compare the ends that the tools left, which are those that ran this phase."""
        able = [peer for peer in peers if phase != "clean" or peer.cache]
        for end in workload.ends:
            found = {peer.name: _digest(peer.result(end)) for peer in able}
            self.checked += max(0, len(found) - 1)
            if len(set(found.values())) > 1:
                lines = "".join(f"\n  {name}: {digest}" for name, digest in found.items())
                raise DifferentBytesError(f"{workload.name}, {phase}: {end} differs{lines}")

    def _raw(self, workload: Workload, directory: Path) -> None:
        """Time the plain commands that the workload is compared with."""
        able = {
            name: script
            for name, script in workload.raw.items()
            if self.setting.find(script.split()[0])
        }
        for name in set(workload.raw) - set(able):
            self.skipped.append(Skipped(workload.name, name, "not found"))
        if not able:
            return
        write_sources(workload, directory.joinpath)
        for number in range(self.plan.rounds):
            for name, script in able.items():
                self._raw_run(workload, directory, number, name, script)

    def _raw_run(
        self, workload: Workload, directory: Path, number: int, name: str, script: str
    ) -> None:
        made = directory / "made"
        if made.exists():
            remove_tree(made)
        made.mkdir()
        if self.plan.sync:
            os.sync()
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        log = directory.with_name("raw.log")
        try:
            usage = run(("sh", "-c", script), directory, env, log, self.plan.timeout)
        except RunFailedError as error:
            self.skipped.append(Skipped(workload.name, name, str(error)))
            return
        self.samples.append(Sample(workload.name, name, "cold", number, usage))
        self.say(f"  {number + 1} {name:<23} {usage.seconds:9.3f} s {usage.cpu:9.3f} s CPU")


def _digest(path: Path) -> str:
    """Return the digest of a file, or of the files of a directory with their names."""
    if not path.exists():
        return "not there"
    hasher = blake3()
    for name, file in _files(path):
        hasher.update(name.encode() + b"\0")
        hasher.update_mmap(file)
    return hasher.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield "", path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield str(file.relative_to(path)), file
