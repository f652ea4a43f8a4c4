"""Tiers: directories of blobs on disks of different speed, and what can go wrong with one."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from typing import Final

from store.digest import Digest, digest_file, is_digest
from store.durability import sync_file_system
from store.epoch import EPOCH as EPOCH
from store.epoch import EPOCH_NS as EPOCH_NS
from store.object_table import ObjectTable
from store.packing import Reading, opened, pack, unpack, write_file
from store.room import total_bytes
from store.temporaries import Temporaries
from store.tier_records import FILES as FILES
from store.tier_records import HDD as HDD
from store.tier_records import LEVEL_NAMES as LEVEL_NAMES
from store.tier_records import NETWORK as NETWORK
from store.tier_records import NVME as NVME
from store.tier_records import RAM as RAM
from store.tier_records import SSD as SSD
from store.tier_records import Form as Form
from store.tier_records import Held as Held
from store.tier_records import Incident as Incident
from store.tier_records import State as State
from store.tier_records import TierSpec as TierSpec

FILE_MODE: Final = 0o444
EXECUTABLE_MODE: Final = 0o555

CUT_SECONDS: Final = 60.0
"""How much older than the last sync a file may be and is looked at after a power cut."""

_names = itertools.count()


class Tier:
    """The blobs in one directory. Slow tiers (`compress`) keep what comes to them as zstd frames;
    what lies there plain can be read all the same.

    OSErrors pass through: `TierSet` decides what they mean for the tier.
    """

    def __init__(self, spec: TierSpec, *, compress: bool = False) -> None:
        self.spec = spec
        self.name = spec.name
        self.level = spec.level
        self.root = spec.path
        self.temporaries = Temporaries(spec.path / "tmp")
        self.compress = compress
        self.state = State.OK
        self.unsynced = False
        self.added = 0
        """Bytes that this process put here, less what it removed."""
        self._counting = threading.Lock()
        self._blobs = f"{spec.path}/blobs"
        self.table: ObjectTable | None = None
        """The table of objects; on a RAM disk and over a network there are only files."""
        if spec.level not in (RAM, NETWORK):
            self.table = ObjectTable(spec.path, self._look_after_cut)
        self.device = 0
        """The file system's number, from stat(2), once the tier was opened."""

    @property
    def durable(self) -> bool:
        """Whether what is here survives the machine being switched off."""
        return self.level != RAM

    @property
    def readable(self) -> bool:
        """Whether blobs can be read from here."""
        return self.state not in (State.GONE, State.ABSENT)

    @property
    def writable(self) -> bool:
        """Whether blobs can be put here."""
        return self.state is State.OK

    def create(self, *, force: bool = False) -> None:
        """Make the directories that blobs and temporaries need, unless that is forbidden; those of
        a RAM disk only with `force`."""
        if self.level == RAM and not os.path.isdir(f"{self._blobs}/ff") and not force:
            self.state = State.ABSENT
            return
        if not self.spec.auto_create and not self.root.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(self.root))
        self.root.mkdir(mode=0o700 if self.level == RAM else 0o777, parents=True, exist_ok=True)
        status = os.stat(self.root)
        if self.level == RAM and not _ours(status):
            raise PermissionError(errno.EACCES, "belongs to somebody else", str(self.root))
        self.temporaries.create()
        if not os.path.isdir(f"{self._blobs}/ff"):
            os.makedirs(self._blobs, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{self._blobs}/ff")  # the others are made when something belongs there
        self.device = status.st_dev
        self.state = State.OK

    def limit(self) -> int:
        """Return the most bytes that may be here; the file system's size where nothing is said."""
        return self.spec.max_size or total_bytes(self.root)

    def in_place(self) -> bool:
        """Say whether the directory is the one that was opened, and not an empty mount point."""
        try:
            same = os.stat(self.root).st_dev == self.device
        except OSError:
            return False
        return same and os.path.isdir(f"{self._blobs}/ff")

    def try_out(self) -> None:
        """Write something and remove it again. Raises OSError where that fails: a file system that
        turned read-only on an error does not say so otherwise."""
        if not self.in_place():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root))
        temporary = self.temporary()
        try:
            with open(temporary, "xb") as file:
                file.write(bytes(4096))
        finally:
            discard(temporary)

    def temporary(self) -> str:
        """Return a path in this tier that nobody else uses."""
        return self.temporaries.new()

    def path(self, digest: Digest, form: Form = Form.PLAIN) -> str:
        """Return where a form of the blob lies here, whether it is there or not. For an object
        that only says where it is: there is no such file."""
        if form is Form.OBJECT:
            return f"{self.root}/objects/{digest}"
        return f"{self._blobs}/{digest[:2]}/{digest[2:]}{form}"

    def variants(self, digest: Digest) -> tuple[str, ...]:
        """Return all the paths at which the blob could lie here."""
        return tuple(self.path(digest, form) for form in FILES)

    def find(self, digest: Digest) -> str | None:
        """Return the path of the file in which the blob lies here, None where there is none."""
        return next(filter(os.path.exists, self.variants(digest)), None)

    def holds(self, digest: Digest) -> bool:
        """Say whether the blob lies here, as a file or as an object."""
        return self.has_object(digest) or self.find(digest) is not None

    def has_object(self, digest: Digest) -> bool:
        """Say whether the blob lies in the table of objects."""
        return self.table is not None and self.table.look(digest, 0.0) is not None

    def has_plain(self, digest: Digest) -> bool:
        """Say whether the blob lies here in plain form; quicker than `status` where it does not."""
        return os.access(self.path(digest), os.R_OK)

    def status(self, digest: Digest, form: Form) -> os.stat_result | None:
        """Return the stat result of a file's form; None where it is not there."""
        try:
            return os.stat(self.path(digest, form))
        except FileNotFoundError:
            return None

    def look(self, digest: Digest, form: Form) -> Held | None:
        """Return what is known of one form; None where it is not there."""
        if form is Form.OBJECT:
            found = self.table.look(digest) if self.table is not None else None
            return None if found is None else Held(digest, form, found.size, found.used, 1)
        status = self.status(digest, form)
        if status is None:
            return None
        return Held(digest, form, status.st_size, status.st_ctime, status.st_nlink)

    def held(self, prefix: str = "") -> Iterator[Held]:
        """Yield everything that holds a blob here, whose digest begins with `prefix`."""
        for object_, found in self.table.held(prefix) if self.table is not None else ():
            yield Held(object_, Form.OBJECT, found.size, found.used, 1)
        yield from self.held_files(prefix)

    def held_files(self, prefix: str = "") -> Iterator[Held]:
        """Yield every file that holds a blob here, whose digest begins with `prefix`."""
        names = [prefix[:2]] if len(prefix) >= 2 else [f"{n:02x}" for n in range(256)]
        for name in names:
            with (
                contextlib.suppress(FileNotFoundError),
                os.scandir(f"{self._blobs}/{name}") as all_,
            ):
                for item in all_:
                    digest, dot, form = item.name.partition(".")
                    if not is_digest(name + digest) or not (name + digest).startswith(prefix):
                        continue
                    with contextlib.suppress(FileNotFoundError, ValueError):
                        status = item.stat(follow_symlinks=False)
                        yield Held(
                            Digest(name + digest),
                            Form(dot + form),
                            status.st_size,
                            status.st_ctime,
                            status.st_nlink,
                        )

    def touch(self, digest: Digest, form: Form) -> bool:
        """Renew the time that tells when a form was used last; False if it is not here."""
        if form is Form.OBJECT:
            return self.table is not None and self.table.touch(digest)
        try:
            os.utime(self.path(digest, form), ns=EPOCH_NS)
        except FileNotFoundError:
            return False
        return True

    def read(self, digest: Digest) -> bytes | None:
        """Return the blob's bytes, not checked; None where it is not here."""
        data = self.read_object(digest)
        if data is not None:
            return data
        for form in FILES:
            path = self.path(digest, form)
            with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
                data = file.readall()
                return unpack(data) if form is Form.PACKED else data
        return None

    def read_object(self, digest: Digest) -> bytes | None:
        """Return an object's bytes, not checked; None where it is not in the table."""
        return None if self.table is None else self.table.read(digest)

    @contextlib.contextmanager
    def open(self, digest: Digest) -> Iterator[Reading | None]:
        """Give the blob's plain bytes, not checked, for reading; None where it is not here."""
        with contextlib.ExitStack() as stack:
            reading: Reading | None = None
            data = self.read_object(digest)
            if data is not None:
                yield io.BytesIO(data)
                return
            for form in FILES:
                with contextlib.suppress(FileNotFoundError):
                    path = self.path(digest, form)
                    reading = stack.enter_context(opened(path, form is Form.PACKED))
                    break
            yield reading

    def write_objects(self, objects: Mapping[Digest, bytes]) -> None:
        """Put objects into the table; without one they become files."""
        if self.table is not None:
            self.count(self.table.put(objects))
            return
        for digest, data in objects.items():
            self.write(digest, data, executable=False)

    def write(self, digest: Digest, data: bytes, executable: bool) -> None:
        """Put a blob here: a temporary, then a rename."""
        temporary = self.temporary()
        form = form_of(executable)
        if self.compress:
            data, form = pack(data), Form.PACKED
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            mode = EXECUTABLE_MODE if form is Form.EXECUTABLE else FILE_MODE
            handle = os.open(temporary, flags, mode)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
                if stat.S_IMODE(os.fstat(handle).st_mode) != mode:
                    os.fchmod(handle, mode)  # the umask is an odd one
                os.utime(handle, ns=EPOCH_NS)
            finally:
                os.close(handle)
            self._move(temporary, self.path(digest, form))
        except BaseException:
            discard(temporary)
            raise
        self.came(len(data))

    def adopt(self, digest: Digest, path: str, size: int, form: Form) -> None:
        """Move the file at `path`, on this tier's file system and in that form, to its place."""
        os.chmod(path, EXECUTABLE_MODE if form is Form.EXECUTABLE else FILE_MODE)
        os.utime(path, ns=EPOCH_NS)
        self._move(path, self.path(digest, form))
        self.came(size)

    def _move(self, path: str, place: str) -> None:
        """Move a file to its place among the blobs."""
        while True:
            try:
                os.rename(path, place)
            except FileNotFoundError:
                # its directory is not there, or an empty one of another process just took its place
                if not os.path.lexists(path):
                    raise
                self._add_shard(os.path.dirname(place))
            else:
                return

    def _add_shard(self, directory: str) -> None:
        """Make a directory of blobs where there is none. Like these it is made as a temporary,
        where there is room."""
        if os.path.isdir(directory):
            return
        made = self.temporary()
        os.mkdir(made)
        try:
            os.rename(made, directory)
        except OSError:  # another process was quicker, and has put something there
            os.rmdir(made)
            if not os.path.isdir(directory):
                raise

    def copy_in(self, digest: Digest, source: Reading, executable: bool) -> None:
        """Put what `source` gives here, checked against `digest`.

        Raises ValueError where the bytes are others, SourceFailed where they cannot be read.
        """
        temporary = self.temporary()
        try:
            found, size = write_file(source, temporary, self.compress)
            if found != digest:
                raise ValueError(digest)
            form = Form.PACKED if self.compress else form_of(executable)
            self.adopt(digest, temporary, size, form)
        finally:
            discard(temporary)

    def remove(self, *digests: Digest) -> int:
        """Remove blobs from here and return the bytes that this freed."""
        freed = 0 if self.table is None else sum(self.table.remove(digests).values())
        for path in itertools.chain.from_iterable(map(self.variants, digests)):
            with contextlib.suppress(FileNotFoundError):
                size = os.stat(path).st_size
                os.unlink(path)
                freed += size
        self.count(-freed)
        return freed

    def quarantine(self, digest: Digest, form: Form) -> None:
        """Set a form aside that is not what its name says."""
        place = self.root / "quarantine" / f"{digest}.{os.getpid()}-{next(_names)}"
        place.parent.mkdir(exist_ok=True)
        if form is not Form.OBJECT:
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path(digest, form), place)
        elif self.table is not None and (data := self.table.read(digest)) is not None:
            place.write_bytes(data)
            self.table.remove([digest])

    def sync(self) -> None:
        """Make what was put here durable. Raises OSError and HostError."""
        table = self.table
        ahead = table is not None and table.is_ahead
        if self.unsynced or (table is not None and ahead and not table.relaxed):
            self.unsynced = False
            if table is not None and not ahead:
                table.unsynced = False  # that covers the table, too
            try:
                sync_file_system(self.root)
            except BaseException:
                self.unsynced = True
                raise
        if table is not None and (ahead or table.unsynced):
            table.sync()

    def _look_after_cut(self, since: float) -> None:
        """Set aside the files that were put here when a power cut was near, and are not whole."""
        for held in self.held_files():
            if held.used > since - CUT_SECONDS and held.form is not Form.PACKED:
                path = self.path(held.digest, held.form)
                if digest_file(path, held.size) != held.digest:
                    self.quarantine(held.digest, held.form)

    @property
    def is_dirty(self) -> bool:
        """Whether something was put here since the last sync."""
        if self.unsynced or self.table is None:
            return self.unsynced
        return self.table.unsynced or self.table.is_ahead

    def count(self, size: int) -> None:
        """Note that so many bytes came, or went if it is negative."""
        with self._counting:
            self.added += size

    def came(self, size: int) -> None:
        """Note that so many bytes were put here, which are to be made durable."""
        self.count(size)
        self.unsynced = True


def _ours(status: os.stat_result) -> bool:
    """Say whether nobody but us and root can put anything into that directory."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def trouble(tier: Tier, error: OSError) -> State | None:
    """Return what an error says about a tier's state; None where it says nothing."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return State.FULL
        case errno.EROFS:
            return State.READ_ONLY
        case errno.ESTALE | errno.ENOTCONN | errno.ENODEV | errno.EIO | errno.EHOSTDOWN:
            return State.GONE
        case errno.ENOENT | errno.ENOTDIR if not tier.in_place():
            return State.GONE
        case errno.EACCES | errno.EPERM:
            return State.READ_ONLY
    return None


def form_of(executable: bool) -> Form:
    """Return the form in which a blob can be linked into a tree."""
    return Form.EXECUTABLE if executable else Form.PLAIN


def discard(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(path)
