"""Faults of the world: a clear error with its exit code, and nothing lost or half-made."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import ONE, fetching, remains

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn, Served

INPUT = 3
HOST = 4
INTEGRITY = 5


# sources that cannot be had


def test_wrong_digest_shows_both_and_the_new_one_ready_to_paste(bn: Bn, served: Served) -> None:
    import hashlib

    file = bn.put("served/file", "what came")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with served(file.parent) as address:
        fetching(bn, f"{address}/file", "0" * 64)
        done = bn("build", "--json", code=INTEGRITY)
        assert "spec.toml:9:7: source 'file': " in done.stderr
        assert f"expected sha256 {'0' * 64}" in done.stderr
        assert f"got      sha256 {found}" in done.stderr
        assert f'sha256 = "{found}"' in done.stderr
        assert '"class": "IntegrityError"' in done.stdout
        assert not remains(bn.store)
        fetching(bn, f"{address}/file", found)
        bn("build")
    assert bn("log", "one").stdout == "what came"


def test_file_that_the_server_lacks_is_an_input_error(bn: Bn, served: Served) -> None:
    with served(bn.directory) as address:
        fetching(bn, f"{address}/nowhere", "0" * 64)
        error = bn.json("build", code=INPUT)["error"]
    assert "404" in error["message"]
    assert "/nowhere" in error["message"]


def test_server_that_is_down_is_a_host_error(bn: Bn) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        fetching(bn, f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/file", "0" * 64)
        done = bn("build", code=HOST)
    assert "check the network" in done.stderr
    assert "secret" not in done.stderr


@pytest.fixture
def cut_off() -> Iterator[str]:
    """The address of a server that promises 1000 bytes, sends 10 and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/file"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_server_that_cuts_off_is_a_host_error_and_leaves_nothing(bn: Bn, cut_off: str) -> None:
    fetching(bn, cut_off, "0" * 64)
    error = bn.json("build", code=HOST)["error"]
    assert "spec.toml:9:7: source 'file': " in error["message"]
    assert "tried 4 times" in error["message"]
    assert not remains(bn.store)


def test_faults_of_several_sources_are_reported_at_once(bn: Bn, served: Served) -> None:
    with served(bn.directory) as address:
        bn.spec(
            f"""
            [sources.a]
            url = "{address}/a"
            sha256 = "{"0" * 64}"
            [sources.b]
            url = "{address}/b"
            sha256 = "{"0" * 64}"
            [sources.c]
            path = "c"
            [actions.one]
            tools = ["sh"]
            inputs = ["a", "b", "c"]
            script = "true"
            """
        )
        said = bn("build", code=INPUT).stderr
    for name in ("a", "b", "c"):
        assert f"source '{name}': " in said


# the store


def test_store_that_is_a_file_is_a_host_error(bn: Bn) -> None:
    bn.spec(ONE)
    bn.put("file", "")
    error = bn.json("build", code=HOST, env={"BN_STORE": str(bn.directory / "file")})["error"]
    assert "file" in error["message"]
    assert "not a directory" in error["message"]


def test_store_of_another_format_is_left_alone(bn: Bn) -> None:
    bn.spec(ONE)
    (bn.store / "format").unlink()
    (bn.store / "format").write_text("99\n")
    for command in (["build"], ["show", "0" * 64], ["log", "one"]):
        error = bn.json(*command, code=HOST)["error"]
        assert "the store has format '99'" in error["message"]
        assert "BN_STORE" in error["hint"]
    assert (bn.store / "format").read_text() == "99\n"


def test_store_is_made_with_the_directories_above_it(bn: Bn) -> None:
    cache = bn.directory / "new/cache"
    bn.env = {name: value for name, value in bn.env.items() if name != "BN_STORE"}
    bn.json("show", "0" * 64, code=INPUT, env={"XDG_CACHE_HOME": str(cache)})
    assert (cache / "bn/format").exists()
    home = bn.directory / "home"
    bn.json("show", "0" * 64, code=INPUT, env={"XDG_CACHE_HOME": "not/absolute", "HOME": str(home)})
    assert (home / ".cache/bn/format").exists()
    assert not (bn.directory / "not").exists()


def test_damaged_index_is_made_again_and_loses_no_result(bn: Bn) -> None:
    bn.spec(ONE)
    bn("build")
    data = bn.store / "index/data.mdb"
    data.write_bytes(os.urandom(data.stat().st_size))
    (bn.directory / "spec.toml").touch()
    said = bn("build").stderr
    assert "the index is corrupt" in said
    assert "made again from the files" in said
    assert "up to date" in said


def full_disk(bn: Bn, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a file system of `size` at the store, in a name space of its own."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a small file system and make it larger")
    bn.store = bn.directory.with_name("small")
    bn.store.mkdir()
    lines = f"mount -t tmpfs -o size={size} none '{bn.store}' || exit 77\n{script}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-uc", lines, "sh", *bn.command("build")],
        cwd=bn.directory,
        env={**bn.env, "BN_STORE": str(bn.store)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    return done


MORE_SPACE = 'mount -o remount,size=400m "$BN_STORE"\n'
LEFT = 'find "$BN_STORE/tmp" "$BN_STORE/work" -mindepth 1 ! -name "t*"\n'


@pytest.mark.parametrize("size", ["1m", "12m"])
def test_full_disk_loses_nothing_and_the_next_build_goes_on(bn: Bn, size: str) -> None:
    bn.put("big", "x" * 5_000_000)
    bn.spec(f'[sources.big]\npath = "big"\n{ONE}')
    script = (
        f'"$@" --json; echo "code $?"\n{LEFT}{MORE_SPACE}"$@" --no-link; echo "code $?"\n{LEFT}'
    )
    done = full_disk(bn, size, script)
    assert "no space left on device" in done.stderr
    assert "BN_STORE" in done.stderr
    assert "1 built, 0 cached" in done.stderr
    first, _, second = done.stdout.partition("code 4\n")
    assert '"class": "HostError"' in first
    assert second == "code 0\n", "nothing unfinished is left, before or after"


def test_disk_that_fills_while_an_action_runs_is_the_hosts_fault(bn: Bn) -> None:
    bn.spec(
        """
        [actions.big]
        tools = ["sh"]
        script = "head -c 150000000 /dev/zero > $out/big"
        outputs = ["big"]
        """
    )
    script = f'"$@"; echo "code $?"\n{LEFT}{MORE_SPACE}"$@" --no-link; echo "code $?"\n{LEFT}'
    done = full_disk(bn, "120m", script)
    assert "no space left" in done.stderr
    assert done.stdout == "code 4\ncode 0\n", done.stderr
