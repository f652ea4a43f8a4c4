"""Tests of what dpkg says and of the closure over it."""

from __future__ import annotations

import pytest

from engine.toolchains.closure import closure
from engine.toolchains.dpkg import (
    Choice,
    Listed,
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
