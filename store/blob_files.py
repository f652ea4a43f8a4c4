"""Blobs as files: written, moved in, checked, over one or more tiers."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from store.digest import MMAP_FROM, Digest, digest_bytes, digest_file, file_bytes
from store.errors import IntegrityError, host_error
from store.gate import Gate
from store.objects import File
from store.packing import SourceFailed, copy_file, opened
from store.tiers import EPOCH_NS, FILES, NVME, Form, Incident, Tier, TierSpec, discard, form_of
from store.tierset import TierSet

if TYPE_CHECKING:
    from store.helpers import Helpers, Wanted

TOUCH_SECONDS: Final = 6 * 3600
"""A blob that is used has its change time renewed if it is older than this: the collector spares
what was used since the oldest running build began, less this."""


class MissingBlob(IntegrityError):
    """A blob that something refers to is not in the store (or was quarantined just now)."""

    def __init__(self, digest: Digest, why: str = "is not in the store") -> None:
        super().__init__(f"blob {digest} {why}", "run the build again: bn rebuilds what is missing")
        self.digest = digest


class BlobFiles:
    """The files of blobs in all tiers. Safe for several processes at once.

    `primary` is the fastest durable tier that can be written: what is new goes there, and actions
    run on its file system.
    """

    def __init__(self, root: Path, tiers: Iterable[TierSpec] = ()) -> None:
        specs = list(tiers) or [TierSpec(name="store", path=root, level=NVME)]
        self.tier_set = TierSet(specs, self._forget)
        self.tiers = self.tier_set.all
        self.gate = Gate(root)
        self._store_root = root
        self._counted: dict[str, int] = {}
        self.helpers: Helpers | None = None
        """Who helps with what takes long, while there is anybody."""
        self._touch_before = time.time() - TOUCH_SECONDS

    def create(self) -> None:
        """Make the directories of every tier; one that cannot be made drops out.

        Raises HostError where no durable tier is left.
        """
        self.tier_set.create()

    @property
    def primary(self) -> Tier:
        """The tier that is written to."""
        return self.tier_set.primary

    @property
    def root(self) -> Path:
        """The primary tier's directory."""
        return self.primary.root

    def unfinished(self) -> list[str]:
        """Return the paths of the temporaries in the primary tier."""
        return self.primary.temporaries.unfinished()

    def incidents(self) -> list[Incident]:
        """Return which tiers dropped out since the last call."""
        incidents, self.tier_set.incidents = self.tier_set.incidents, []
        return incidents

    def temporary(self) -> str:
        """Return a path on the primary tier's file system that nobody else uses."""
        return self.primary.temporary()

    def is_inside(self, path: str) -> bool:
        """Say whether a path leads into the store or one of its tiers."""
        roots = {self._store_root, *(tier.root for tier in self.tiers)}
        return any(path.startswith(f"{root}/") for root in roots)

    def reconsider(self, error: Exception | None = None) -> bool:
        """Look at the primary tier again after `error`; say whether another one takes its place
        now, so that trying again makes sense."""
        return self.tier_set.reconsider(error)

    def take_added(self) -> dict[str, int]:
        """Return the bytes by tier that this process added (or removed) since the last call."""
        now = {tier.name: tier.added for tier in self.tiers}
        before, self._counted = self._counted, now
        deltas = {name: number - before.get(name, 0) for name, number in now.items()}
        return {name: number for name, number in deltas.items() if number}

    # writing

    def put_bytes(self, data: bytes, executable: bool = False) -> Digest:
        """Store `data` as a file and return its digest. Raises HostError where no tier can take
        it."""
        digest = digest_bytes(data)
        if not self._intact(self.primary, digest, form_of(executable), len(data)):
            self._write_file(digest, data, executable)
        return digest

    def adopt(self, path: str, executable: bool, status: os.stat_result | None = None) -> File:
        """Move the regular file at `path`, on the primary tier's file system, into the store.

        The caller makes sure that nobody has it open for writing, also since it found the `status`
        that it gives.
        """
        try:
            if status is None:
                status = os.stat(path)
            size = status.st_size
            digest = digest_file(path, size)
            if not self._intact(self.primary, digest, form_of(executable), size):
                self._place(digest, path, status, executable)
            else:
                os.unlink(path)
        except OSError as error:
            raise host_error(error, "cannot move into the store") from error
        return File(digest, size, executable)

    def copy_in(self, path: str, size: int, executable: bool) -> File:
        """Store a copy of the file at `path` (about `size` bytes); the copy is what is hashed.

        Raises OSError, with the file's name, where `path` cannot be read, HostError where the store
        cannot be written.
        """
        try:
            return self._copied_in(path, size, executable)
        except OSError as error:
            error.filename = error.filename or path
            raise

    def copy_all(
        self, wanted: Sequence[Wanted], idle: Callable[[], bool] = lambda: True
    ) -> list[File]:
        """Do what `copy_in` does with many files, and return them in that order. While this process
        is not `idle` that is left to `helpers`, where there are any. Raises what `copy_in` does."""
        if self.helpers is not None and len(wanted) > 1:
            return self.helpers.copy(wanted, idle)
        return [self.copy_in(*one) for one in wanted]

    # inside

    def _copied_in(self, path: str, size: int, executable: bool) -> File:
        if size < MMAP_FROM:
            data = file_bytes(path, size)
            return File(self.put_bytes(data, executable), len(data), executable)

        form = form_of(executable)
        with open(path, "rb", buffering=0) as file:

            def copy(tier: Tier) -> File:
                temporary = tier.temporary()
                file.seek(0)
                try:
                    digest, length = copy_file(file, temporary, size)
                    if not self._intact(tier, digest, form, length):
                        tier.adopt(digest, temporary, length, form)
                    return File(digest, length, executable)
                finally:
                    discard(temporary)

            try:
                return self.tier_set.write(copy)
            except SourceFailed as failure:
                raise failure.error from None

    def _write_file(self, digest: Digest, data: bytes, executable: bool) -> str:
        def write(tier: Tier) -> str:
            tier.write(digest, data, executable)
            return tier.path(digest, form_of(executable))

        return self.tier_set.write(write)

    def _holder(
        self, digest: Digest, size: int | None = None, tiers: Iterable[Tier] | None = None
    ) -> Tier | None:
        """Return the first tier in which the blob is, untouched."""
        for tier in self.tier_set.readable() if tiers is None else tiers:
            if any(self._intact(tier, digest, form, size) for form in FILES):
                return tier
        return None

    def _intact(self, tier: Tier, digest: Digest, form: Form, size: int | None) -> bool:
        """Say whether this form is there; quarantine it where it was changed in place."""
        status = self.tier_set.attempt(tier, tier.status, digest, form)
        if status is None:
            return False
        right_size = form is Form.PACKED or size in (None, status.st_size)
        if status.st_mtime_ns == EPOCH_NS[0] and right_size:
            return status.st_ctime >= self._touch_before or self._touch(tier, digest, form)
        self._quarantine(tier, digest, form)
        return False

    def _touch(self, tier: Tier, digest: Digest, form: Form) -> bool:
        """Renew the change time; False where the collector was quicker."""
        with self.gate.passing():
            return self.tier_set.attempt(tier, tier.touch, digest, form) is not False

    def _copy(self, source: Tier, digest: Digest, executable: bool) -> str | None:
        """Copy a blob to the primary tier and return its path there, None if it is not there."""

        def copy(target: Tier) -> str | None:
            with source.open(digest) as reading:
                if reading is None:
                    return None
                target.copy_in(digest, reading, executable)
                return target.path(digest, form_of(executable))

        return self.tier_set.write(copy)

    def _place(self, digest: Digest, path: str, status: os.stat_result, executable: bool) -> None:
        """Move the file at `path` to its place in the primary tier, by copy where it must be."""

        def place(tier: Tier) -> None:
            if status.st_dev == tier.device:
                try:
                    tier.adopt(digest, path, status.st_size, form_of(executable))
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                else:
                    return
            with opened(path, packed=False) as reading:
                tier.copy_in(digest, reading, executable)
            discard(path)

        self.tier_set.write(place)

    def _quarantine(self, tier: Tier, digest: Digest, form: Form | None = None) -> None:
        for one in Form if form is None else (form,):
            self.tier_set.attempt(tier, tier.quarantine, digest, one)
        self._forget()

    def _forget(self) -> None:
        """A tier dropped out, or a blob was set aside: what was known to be there may not be."""
