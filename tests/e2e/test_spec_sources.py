"""Sources and toolchains of specs: each kind does what the documents say."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn, Served

INPUT = 3


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as specs write it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# sources


def test_path_sources_leave_out_what_is_excluded(bn: Bn) -> None:
    for name in ("a", "b.log", "deep/c.log", "deep/d", ".git/config"):
        bn.put(f"src/{name}", "")
    bn.spec(
        """
        [sources.src]
        path = "src"
        exclude = ["**/*.log"]
        [sources.file]
        path = "src/b.log"
        [actions.a]
        tools = ["sh"]
        inputs = ["src", "file"]
        script = "ls -R src file"
        """
    )
    bn("build")
    said = bn("log", "a").stdout
    assert said.split() == ["file:", "b.log", "src:", "a", "deep", "src/deep:", "d"]


def test_executable_files_and_links_stay_what_they_are(bn: Bn) -> None:
    bn.put("src/tool", "#!/bin/sh\necho works\n").chmod(0o755)
    (bn.directory / "src/link").symlink_to("tool")
    bn.spec(
        '[sources.src]\npath = "src"\n[actions.a]\ntools = ["sh"]\ninputs = ["src"]\n'
        'script = "src/link; test ! -x src/plain"\n'
    )
    bn.put("src/plain", "")
    bn("build")
    assert bn("log", "a").stdout == "works\n"


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """Write a tar or zip file."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in files.items():
                packed.writestr(name, data)
        return path
    gzipped = path.suffix == ".gz"
    with tarfile.open(path, "w:gz") if gzipped else tarfile.open(path, "w:xz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "zip"])
def test_url_sources_are_fetched_checked_and_unpacked(bn: Bn, served: Served, kind: str) -> None:
    files = {"p-1.0/README": b"read", "p-1.0/src/a.c": b"code", "p-1.0/doc/x": b"doc"}
    packed = archive(bn.directory.parent / f"p-1.0.{kind}", files)
    with served(packed.parent) as address:
        bn.spec(
            f"""
            [sources.whole]
            url = "{address}/{packed.name}"
            sha256 = "{sha256(packed)}"
            [sources.p]
            url = "{address}/{packed.name}"
            sha256 = "{sha256(packed)}"
            unpack = true
            strip = 1
            exclude = ["doc"]
            [actions.a]
            tools = ["sh"]
            inputs = ["p", "whole"]
            script = "ls -R p whole; cat p/src/a.c > $out/a"
            outputs = ["a"]
            """
        )
        bn("build")
    assert bn.result("a") == "code"
    said = bn("log", "a").stdout.split()
    assert said == ["p:", "README", "src", "p/src:", "a.c", "whole:", packed.name]
    # The server is gone: what is in the store is not fetched again.
    assert bn.ran() == set()


def test_source_without_a_digest_offers_one_to_paste(bn: Bn, served: Served) -> None:
    file = bn.put("served/file", "content")
    with served(file.parent) as address:
        text = f'[sources.f]\nurl = "{address}/file"\n'
        action = '[actions.a]\ntools = ["sh"]\ninputs = ["f"]\nscript = "cat f/file"\n'
        bn.spec(text + action)
        error = bn.json("build", code=INPUT)["error"]
        pin = f'sha256 = "{sha256(file)}"'
        assert pin in error["hint"]
        bn.spec(f"{text}{pin}\n{action}")
        bn("build")
    assert bn("log", "a").stdout == "content"


# toolchains


def test_toolchains_can_be_made_of_paths(bn: Bn) -> None:
    bn.put("tools/bin/hello", "#!/bin/sh\necho hello from a tool $VARIABLE\n").chmod(0o755)
    bn.put(
        "mine.toml",
        '[toolchain]\npaths = ["tools/bin=/usr/bin"]\nenv = { VARIABLE = "set" }\n',
    )
    bn.spec('mine = "mine.toml"\n[actions.a]\ntools = ["sh", "mine"]\nrun = ["hello"]\n')
    bn("build")
    assert bn("log", "a").stdout == "hello from a tool set\n"
    bn.put("tools/bin/hello", "#!/bin/sh\necho changed\n")
    assert bn.ran() == {"a"}
    assert bn("log", "a").stdout == "changed\n"


def test_toolchain_of_missing_packages_says_how_to_install_them(bn: Bn) -> None:
    bn.put("mine.toml", '[toolchain]\ndebian = ["dash", "no-such-package"]\n')
    bn.spec('mine = "mine.toml"\n[actions.a]\ntools = ["mine"]\nrun = ["true"]\n')
    error = bn.json("build", code=INPUT)["error"]
    assert "no-such-package" in error["message"]
    assert "apt" in error["message"] + error["hint"]
