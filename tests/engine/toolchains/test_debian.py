"""Tests of installed packages as a toolchain: on recorded dpkg data, and on this machine's."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.sources.exclusion import exclusion
from engine.spec.model import ToolchainSpec
from engine.toolchains import debian
from engine.toolchains.dpkg import Alternative, Choice, Listed, Package
from engine.toolchains.host import Host
from engine.toolchains.importer import Toolchain, import_toolchain
from engine.toolchains.layout import Layout, Taken
from store.cas import empty_tree
from store.errors import InputError
from store.materialise import materialised
from store.objects import Directory, Entry, File, Link
from store.store import Store
from store.trees import build_tree, walk

C_TOOLCHAIN = ToolchainSpec(
    debian=("gcc", "libc6-dev", "binutils", "make", "dash", "coreutils", "mawk"),
    env={"CC": "cc"},
)


class FakeMachine:
    """A directory that looks like a machine with merged /usr, and recorded dpkg data."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.listings: dict[str, list[Listed]] = {}
        self.alternatives: list[Alternative] = []
        (root / "usr" / "bin").mkdir(parents=True)
        (root / "bin").symlink_to("usr/bin")
        monkeypatch.setattr(debian, "listed_files", self.listed)
        monkeypatch.setattr(debian, "alternatives", lambda: self.alternatives)

    def packages(self) -> list[Package]:
        return [Package(name, "all", "1") for name in self.listings]

    def listed(self, packages: Sequence[Package]) -> list[list[Listed]]:
        return [self.listings[package.name] for package in packages]

    def add(self, package: str, path: str, link: str | None = None, mode: int = 0o755) -> None:
        self.listings.setdefault(package, []).append(Listed(path))
        place = self.root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        if link is None:
            place.write_text(package)
            place.chmod(mode)
        else:
            place.symlink_to(link)

    def layout(self, *packages: str, exclude: Sequence[str] = ()) -> dict[str, str]:
        """Return what an import places where: links as `-> target`, files by their source."""
        layout = Layout(Host(str(self.root)), exclusion(exclude))
        debian.take_packages(layout, packages, self.packages())
        layout.settle()
        return {
            place: entry.source if isinstance(entry, Taken) else f"-> {entry.target}"
            for place, entry in sorted(layout.entries.items())
        }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(tmp_path / "machine", monkeypatch)


def test_merged_directories_are_links(machine: FakeMachine) -> None:
    machine.add("dash", "/bin/dash")
    machine.add("dash", "/bin/sh", link="dash")
    assert machine.layout("dash") == {
        "bin": "-> usr/bin",
        "usr/bin/dash": "/usr/bin/dash",
        "usr/bin/sh": "-> dash",
    }


def test_links_are_made_relative_and_dangling_ones_dropped(machine: FakeMachine) -> None:
    machine.add("p", "/usr/lib/p/tool")
    machine.add("p", "/usr/bin/tool", link="/usr/lib/p/tool")
    machine.add("p", "/usr/bin/tool2", link="/bin/tool")
    machine.add("p", "/usr/bin/dir", link="../lib/p")
    machine.add("p", "/usr/bin/gone", link="/usr/bin/nothing")
    machine.add("p", "/usr/bin/gone2", link="gone")
    machine.add("p", "/usr/bin/loop", link="loop")
    machine.add("p", "/usr/bin/conf", link="/etc/p.conf")
    machine.add("p", "/etc/p.conf")
    assert machine.layout("p") == {
        "bin": "-> usr/bin",
        "usr/bin/dir": "-> ../lib/p",
        "usr/bin/tool": "-> ../lib/p/tool",
        "usr/bin/tool2": "-> tool",
        "usr/lib/p/tool": "/usr/lib/p/tool",
    }


def test_what_is_left_out(machine: FakeMachine) -> None:
    machine.add("p", "/usr/bin/p")
    machine.add("p", "/usr/bin/private", mode=0o750)
    for path in ("/usr/share/doc/p/x", "/usr/lib/__pycache__/x", "/var/lib/x", "/usr/lib/big.a"):
        machine.add("p", path)
    machine.listings["p"].append(Listed("/usr/bin/not-there"))
    assert machine.layout("p", exclude=["**/*.a"]) == {"usr/bin/p": "/usr/bin/p"}


def test_diverted_files(machine: FakeMachine) -> None:
    machine.add("wrapper", "/usr/bin/tool")
    machine.add("tool", "/usr/bin/tool.real")
    machine.listings["tool"] = [Listed("/usr/bin/tool", "/usr/bin/tool.real", "wrapper")]
    assert machine.layout("tool") == {"usr/bin/tool": "/usr/bin/tool.real"}
    assert machine.layout("tool", "wrapper") == {
        "usr/bin/tool": "/usr/bin/tool",
        "usr/bin/tool.real": "/usr/bin/tool.real",
    }


def test_alternatives_are_the_best_ones_within_the_closure(machine: FakeMachine) -> None:
    for name in ("mawk", "gawk", "bawk"):
        machine.add(name, f"/usr/bin/{name}")
    machine.alternatives = [
        Alternative(
            "/usr/bin/awk",
            (
                Choice("/usr/bin/mawk", 5, {"/usr/bin/nawk": "/usr/bin/mawk"}),
                Choice("/bin/gawk", 10, {"/usr/share/man/x": "/usr/share/man/y"}),
                Choice("/usr/bin/bawk", 10, {}),
            ),
        )
    ]
    assert machine.layout("mawk")["usr/bin/awk"] == "-> mawk"
    assert machine.layout("mawk")["usr/bin/nawk"] == "-> mawk"
    assert machine.layout("mawk", "gawk")["usr/bin/awk"] == "-> gawk"
    assert "usr/bin/nawk" not in machine.layout("mawk", "gawk")
    # Equal priorities: update-alternatives takes whichever came first, we the first by name.
    assert machine.layout("gawk", "bawk")["usr/bin/awk"] == "-> gawk"


def resolvable(store: Store, toolchain: Toolchain, name: str) -> bool:
    return (materialised(store.cas, toolchain.tree) / "usr/bin" / name).exists()


def test_this_machines_compiler_builds_a_program_in_a_sandbox(store: Store, tmp_path: Path) -> None:
    toolchain = import_toolchain(store, C_TOOLCHAIN, tmp_path)
    assert dict(toolchain.env) == {"CC": "cc"}
    entries = dict(walk(store.cas, toolchain.tree))
    for path, entry in entries.items():
        assert not (isinstance(entry, Link) and entry.target.startswith("/")), path
    missing = [
        name
        for name in ("cc", "gcc", "c99", "ar", "ld", "as", "make", "sh", "awk", "ls")
        if not resolvable(store, toolchain, name)
    ]
    assert missing == []
    assert not any(path.startswith(("etc/", "usr/share/doc/")) for path in entries)

    mounts: dict[str, Entry] = {
        name: Directory(empty_tree(store.cas)) for name in ("proc", "dev", "tmp", "build")
    }
    root = build_tree(store.cas, {**mounts, **store.cas.get_tree(toolchain.tree).entries})
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.c").write_text(
        '#include <stdio.h>\nint main(void) { return puts("it runs") < 0; }\n'
    )
    (work / "Makefile").write_text("all:\n\t@cc -O2 -o a a.c\n\t@./a | awk '{ print $$2 }'\n")
    done = subprocess.run(
        f"bwrap --unshare-all --clearenv --setenv PATH /usr/bin:/bin "
        f"--ro-bind {materialised(store.cas, root)} / --proc /proc --dev /dev --tmpfs /tmp "
        f"--bind {work} /build --chdir /build /bin/sh -c make".split(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "runs\n"), done.stderr


def test_the_same_packages_give_the_same_tree_anywhere(store: Store, tmp_path: Path) -> None:
    spec = ToolchainSpec(debian=("dash", "coreutils"))
    first = import_toolchain(store, spec, tmp_path)
    assert import_toolchain(store, spec, tmp_path) == first
    turned = ToolchainSpec(debian=("coreutils", "dash", "dash"))
    with Store(tmp_path / "other") as other:
        assert import_toolchain(other, turned, Path("/")).tree == first.tree
    assert all(Path(path).exists() for path in first.watched)


def test_what_the_store_lost_is_taken_again(store: Store, tmp_path: Path) -> None:
    spec = ToolchainSpec(debian=("dash",))
    first = import_toolchain(store, spec, tmp_path)
    files = (e for _, e in walk(store.cas, first.tree) if isinstance(e, File))
    for file in itertools.islice(files, 2):
        store.cas.quarantine(file.digest, file.executable)
    assert import_toolchain(store, spec, tmp_path) == first
    assert store.cas.complete(Directory(first.tree))


def test_missing_packages_and_empty_toolchains(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no-such-a, no-such-b"):
        import_toolchain(store, ToolchainSpec(debian=("no-such-a", "dash", "no-such-b")), tmp_path)
    with pytest.raises(InputError, match="names nothing"):
        import_toolchain(store, ToolchainSpec(), tmp_path)
