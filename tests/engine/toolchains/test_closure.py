"""Tests of what dpkg says and of the closure over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.toolchains import dpkg
from engine.toolchains.closure import closure
from engine.toolchains.dpkg import (
    Choice,
    Listed,
    Package,
    installed_packages,
    parse_alternative,
    parse_listings,
    parse_packages,
)
from store.errors import HostError, InputError

RECORDED = """\
dpkg\tamd64\tii \t1.21\t\t\t
gcc\tamd64\tii \t4:12\t\tcpp (= 4:12), gcc-12 (>= 12.2.0-1~)\tc-compiler, gcc-x86 (= 4:12)
gcc-12\tamd64\tii \t12\tinit [linux-any]\tlibc6 (>= 2.36) | musl, gone\tc-compiler
cpp\tall\tiU \t4:12\t\t\t
tool\tall\tiW \t1\t\tlibc6, python3:any, awk, nothing | cpp:native | mawk\t
libc6\tamd64\tii \t2.36\t\t\tlibc
libc6\ti386\tii \t2.36\t\tlibgcc\tlibc
mawk\tamd64\tii \t1.3\tlibc6\t\tawk
gawk\tamd64\trc \t1.3\t\t\tawk
old\ti386\tii \t1\t\tlibc6\t
libgcc\tamd64\tii \t12\t\t\t
libgcc\ti386\tii \t12\t\told\t
python3\ti386\tii \t3\t\t\t
"""


def names(*wanted: str) -> list[str]:
    return [str(package) for package in closure(parse_packages(RECORDED), wanted)]


def test_depends_and_pre_depends_are_followed() -> None:
    assert names("gcc") == ["gcc-12:amd64", "gcc:amd64", "libc6:amd64"]


def test_virtual_qualified_and_alternative_names() -> None:
    assert names("tool") == ["libc6:amd64", "mawk:amd64", "python3:i386", "tool:all"]
    assert names("awk") == ["libc6:amd64", "mawk:amd64"]


def test_dependencies_keep_their_architecture_and_may_be_cyclic() -> None:
    assert names("old:i386") == ["libc6:i386", "libgcc:i386", "old:i386"]
    assert names("libc6:i386") == names("old:i386")


def test_all_missing_packages_are_named() -> None:
    with pytest.raises(InputError, match="gawk, cpp, nope") as caught:
        names("gawk", "gcc", "cpp", "nope")
    assert "apt-get install gawk cpp nope" in caught.value.hint


def test_listings_and_diversions() -> None:
    text = (
        "/.\n/bin\n/bin/sh\npackage diverts others to: /bin/sh.distrib\n\n"
        "/usr/bin/a b\ndiverted by other-pkg to: /usr/bin/a b.other\n"
        "/usr/bin/c\nlocally diverted to: /usr/bin/c.mine\n\n"
    )
    assert parse_listings(text)[:2] == [
        [Listed("/bin"), Listed("/bin/sh")],
        [
            Listed("/usr/bin/a b", "/usr/bin/a b.other", "other-pkg"),
            Listed("/usr/bin/c", "/usr/bin/c.mine"),
        ],
    ]


def test_lists_are_what_dpkg_query_tells() -> None:
    packages = dpkg.installed_packages()
    told = parse_listings(dpkg._query("-L", *map(str, packages)))
    assert dpkg._read_lists(packages) == told


@pytest.mark.parametrize("strange", ["another form", "a list is missing", "nothing diverted"])
def test_lists_that_are_not_as_expected_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strange: str
) -> None:
    package = Package("one", "all", "1")
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    monkeypatch.setattr(dpkg, "_query", lambda *asked: f"/asked/{' '.join(asked)}\n")
    info = tmp_path / "info"
    info.mkdir()
    (tmp_path / "diversions").write_text("/b\n/b.mine\n:\n/c\n/c.other\nother\n/d\n/d.d\none\n")
    (info / "format").write_text("1\n")
    (info / "one.list").write_text("/.\n/a\n/b\n/c\n/d\n")
    read = [Listed("/a"), Listed("/b", "/b.mine"), Listed("/c", "/c.other", "other"), Listed("/d")]
    assert dpkg.listed_files([package]) == [read]
    if strange == "another form":
        (info / "format").write_text("2\n")
    else:
        (info / "one.list" if "list" in strange else tmp_path / "diversions").unlink()
    assert dpkg.listed_files([package]) == [[Listed("/asked/-L one:all")]]


def test_alternatives() -> None:
    text = (
        "manual\n/usr/bin/awk\nawk.1.gz\n/man/awk.1.gz\nnawk\n/usr/bin/nawk\n\n"
        "/usr/bin/gawk\n10\n/man/gawk.1.gz\n\n/usr/bin/mawk\n5\n\n/usr/bin/mawk\n\n"
    )
    found = parse_alternative(text)
    assert found is not None
    assert found.link == "/usr/bin/awk"
    assert found.choices == (
        Choice("/usr/bin/gawk", 10, {"/man/awk.1.gz": "/man/gawk.1.gz"}),
        Choice("/usr/bin/mawk", 5, {"/usr/bin/nawk": "/usr/bin/mawk"}),
    )
    assert parse_alternative("auto\n") is None
    assert parse_alternative("auto\n/x\n\n/y\nhigh\n\n") is None


def test_a_machine_without_dpkg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.toolchains.dpkg.subprocess.run", _no_such_program)
    with pytest.raises(HostError) as caught:
        installed_packages()
    assert "paths = [" in caught.value.hint


def _no_such_program(*arguments: object, **options: object) -> None:
    raise FileNotFoundError
