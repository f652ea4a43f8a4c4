"""The tiers of one store: which of them are used for what, and what happens when one fails."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from typing import Concatenate, Final, ParamSpec, TypeVar

from store.digest import Digest
from store.errors import HostError, NoSpace, host_error
from store.packing import SourceFailed
from store.tiers import HDD, RAM, Incident, State, Tier, TierSpec, trouble

LEAST_FREE: Final = 2**20
"""Bytes of room below which a tier counts as full when something failed there."""

OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that are this process's, and say nothing about a disk."""

P = ParamSpec("P")
Value = TypeVar("Value")


class TierSet:
    """The tiers by level. `incidents` says which dropped out since somebody last looked.

    ::

        OK ──▶ FULL, READ_ONLY   read from, not written to
         └───▶ GONE              left alone, until the store is opened again
    """

    def __init__(self, specs: Iterable[TierSpec], dropped: Callable[[], None]) -> None:
        """Take tiers; `dropped` is called when one cannot be used as before."""
        ordered = sorted(specs, key=lambda spec: spec.level)
        first = next((spec for spec in ordered if spec.level != RAM), ordered[0])
        self.all = [Tier(spec, compress=spec.level >= HDD and spec != first) for spec in ordered]
        self._quick = [tier for tier in self.all if not tier.durable]
        self.incidents: list[Incident] = []
        self._dropped = dropped
        self._primary: Tier | None = None
        self._readable: list[Tier] | None = None

    def create(self) -> None:
        """Make the directories of every tier; one that cannot be made drops out.

        Raises HostError where no durable tier is left.
        """
        last: OSError | None = None
        for tier in self.all:
            try:
                tier.create()
            except OSError as error:
                state = None if tier.level == RAM else trouble(tier, error)
                self.drop(tier, state or State.GONE, error)
                last = error
        if last is not None and not any(tier.durable and tier.readable for tier in self.all):
            raise host_error(last, "cannot open the store")

    def open(self, tier: Tier) -> None:
        """Make the directories of one tier, a RAM disk's too. Raises OSError."""
        tier.create(force=True)
        self._primary = self._readable = None

    @property
    def primary(self) -> Tier:
        """The tier that is written to: the fastest durable one that takes anything.

        Where that is a slow one for want of others, it keeps what is new as plain files, because
        trees are made of hard links to them.
        """
        if self._primary is None:
            durable = [tier for tier in self.all if tier.durable] or self.all
            writable = (tier for tier in durable if tier.writable)
            readable = (tier for tier in durable if tier.readable)
            self._primary = next(writable, None) or next(readable, durable[0])
            self._primary.compress = False
        return self._primary

    def readable(self) -> list[Tier]:
        """Return the tiers to read from: the primary one, the others by speed, the RAM disk."""
        if self._readable is None:
            primary = self.primary
            found = [tier for tier in self.all if tier.readable]
            found.sort(key=lambda tier: (tier is not primary, not tier.durable, tier.level))
            self._readable = found
        return self._readable

    def reading(self, digest: Digest) -> list[Tier]:
        """Return the tiers to read the bytes of a blob from: the RAM disk first if it has it.

        Measured: with a warm page cache that gains and loses nothing, with a cold one it is 14
        times as fast as a 60 µs disk, and a blob that is not there costs 1 µs (store/README.md).
        """
        for tier in self._quick:
            if tier.readable and tier.has_plain(digest):
                return [tier, *self.readable()]
        return self.readable()

    def attempt(
        self, tier: Tier, action: Callable[P, Value], *args: P.args, **options: P.kwargs
    ) -> Value | None:
        """Return what `action` gives; None, and the tier dropped, where the tier fails."""
        try:
            return action(*args, **options)
        except OSError as error:
            self.failed(tier, error)
            return None

    def failed(self, tier: Tier, error: OSError) -> None:
        """Note that reading from a tier failed; raise HostError where that is not for its sake."""
        state = trouble(tier, error)
        if state is None:
            raise host_error(error, "cannot read the store") from error
        if state is State.GONE:
            self.drop(tier, state, error)

    def write(self, action: Callable[[Tier], Value]) -> Value:
        """Do what writes to the primary tier; when that fails for the tier's sake, to the next.

        Raises HostError where none is left.
        """
        while True:
            tier = self.primary
            try:
                return action(tier)
            except OSError as error:
                state = trouble(tier, error)
                if state is not None:
                    self.drop(tier, state, error)
                if state is None or self.primary is tier:
                    raise host_error(error, "cannot write to the store") from error

    def copy(
        self,
        source: Tier,
        action: Callable[Concatenate[Tier, P], Value],
        *args: P.args,
        **options: P.kwargs,
    ) -> Value | None:
        """Do what reads from `source` and writes to another tier; None where the source failed."""
        try:
            return action(source, *args, **options)
        except SourceFailed as failure:
            self.failed(source, failure.error)
            return None

    def sync(self) -> bool:
        """Make everything that was stored so far durable: one syncfs(2) a tier for all of it.

        False where a tier failed before that: some of it is lost. Raises HostError where no other
        tier is left.
        """
        whole = True
        for tier in self.all:
            if not tier.is_dirty:
                continue
            try:
                tier.sync()
                if tier.in_place():
                    continue
                error = OSError(errno.ENOENT, "is no longer there", str(tier.root))
            except HostError as failure:
                error = OSError(errno.EIO, failure.message, str(tier.root))
            except OSError as failure:
                if failure.errno in OURS:
                    raise host_error(failure, "cannot make the store durable") from failure
                error = failure
            if not tier.durable:
                continue
            self.drop(tier, State.GONE, error)
            whole = False
            if self.primary is tier:
                raise host_error(error, "cannot make the store durable")
        return whole

    def reconsider(self, error: Exception | None = None) -> bool:
        """Look at the primary tier again after something failed with `error`; say whether another
        one takes its place now, so that trying again makes sense."""
        tier = self.primary
        if isinstance(error, NoSpace):  # there may be room again already, but too little
            self.drop(tier, State.FULL, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            return self.primary is not tier
        try:
            tier.try_out()
            status = os.statvfs(tier.root)
            no_files = status.f_files and not status.f_favail
            if status.f_bavail * status.f_frsize < LEAST_FREE or no_files:
                self.drop(tier, State.FULL, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        except OSError as problem:
            self.drop(tier, trouble(tier, problem) or State.GONE, problem)
        return self.primary is not tier

    def retry(self) -> None:
        """Write again to tiers that were full, where there is room now."""
        for tier in self.all:
            if tier.state is State.FULL:
                with contextlib.suppress(OSError):
                    status = os.statvfs(tier.root)
                    if status.f_bavail * status.f_frsize >= 4 * LEAST_FREE:
                        tier.state = State.OK
                        self._primary = self._readable = None

    def drop(self, tier: Tier, state: State, error: OSError) -> None:
        """Note that a tier cannot be used as before."""
        if tier.state is not state:
            tier.state = state
            self._primary = self._readable = None
            reason = (error.strerror or str(error)).lower()
            self.incidents.append(Incident(tier.name, state, reason))
            self._dropped()
