"""The measurements themselves, so short that their values mean nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.resources.benchmark import mix
from engine.resources.benchmark.network import measure_network, score
from engine.resources.benchmark.pinned import python, run_pinned
from engine.resources.benchmark.program import MODULES, module, write_program
from engine.resources.benchmark.results import Run
from engine.resources.benchmark.session import Setting, Wanted, run_all
from engine.resources.benchmark.typescript import VERSION, Missing, find_compiler, unpack
from engine.resources.discover import discover_compute
from store.errors import HostError, InputError


def silent(_: str) -> None:
    """Say nothing."""


def measured(tmp_path: Path, wanted: Wanted) -> Run:
    setting = Setting(kept=tmp_path, quick=True, fetch=False, force_mix=True)
    (run,) = run_all(discover_compute(), wanted, setting, silent)
    return run


def test_program_is_the_same_everywhere(tmp_path: Path) -> None:
    write_program(tmp_path)
    files = sorted((tmp_path / "src").iterdir())
    assert len(files) == MODULES
    whole = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    assert whole == "12acc81a3ec915f93d38369e338ade95eaaea2f4bc5ceeaa7b6e6fa5b90ea085", (
        "reference seconds hold for this program only"
    )
    assert module(7) == (tmp_path / "src/m7.ts").read_text()


def test_mix_comes_to_the_same_everywhere() -> None:
    assert mix.run(2) == 328784
    assert mix.run(1) == mix.round_of(0)


def test_mix_runs_without_anything_of_bn(tmp_path: Path) -> None:
    command = [python(), "-I", "-S", str(Path(mix.__file__)), "2"]
    cpu = discover_compute().usable_cpus[0]
    (taken,) = run_pinned(command, [cpu], tmp_path)
    assert taken.printed == f"{mix.run(2)}\n"
    assert taken.cpu > 0
    assert taken.wall > 0


def test_processes_are_pinned_and_this_one_is_not(tmp_path: Path) -> None:
    import os

    before = os.sched_getaffinity(0)
    cpus = sorted(before)
    ask = "import os; print(sorted(os.sched_getaffinity(0)))"
    taken = run_pinned([python(), "-I", "-S", "-c", ask], cpus, tmp_path)
    assert [one.printed.strip() for one in taken] == [f"[{cpu}]" for cpu in cpus]
    assert os.sched_getaffinity(0) == before


def test_process_that_fails_is_told_of(tmp_path: Path) -> None:
    cpu = discover_compute().usable_cpus[0]
    with pytest.raises(HostError, match="failed"):
        run_pinned([python(), "-I", "-S", "-c", "raise SystemExit('no')"], [cpu], tmp_path)
    with pytest.raises(HostError, match="cannot run"):
        run_pinned(["/does/not/exist"], [cpu], tmp_path)


def test_processors_by_the_mix(tmp_path: Path) -> None:
    run = measured(tmp_path, Wanted(cpu=True))
    assert (run.kind, run.way) == ("cpu", "mix")
    single, multi = run.value("cpu.single"), run.value("cpu.multi")
    assert single
    assert multi
    assert single > 0
    assert multi > 0
    assert any("mix" in note for note in run.notes)
    assert int(run.about["threads"]) >= 1


def test_processors_by_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "bin/node"
    node.parent.mkdir()
    node.write_text('#!/bin/sh\n[ "$1" = --version ] && echo v99.1 || exec ls tsconfig.json src\n')
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(node.parent), prepend=":")
    script = tmp_path / f"kept/typescript-{VERSION}/lib/tsc.js"
    script.parent.mkdir(parents=True)
    script.write_text("")
    setting = Setting(kept=tmp_path / "kept", quick=True, fetch=False)
    (run,) = run_all(discover_compute(), Wanted(cpu=True), setting, silent)
    assert run.way == "typescript"
    assert (run.about["node"], run.about["typescript"]) == ("v99.1", VERSION)
    assert run.value("cpu.single")
    node.write_text('#!/bin/sh\n[ "$1" = --version ] && echo v99.1 || exit 2\n')
    with pytest.raises(HostError, match="failed in the benchmark"):
        list(run_all(discover_compute(), Wanted(cpu=True), setting, silent))


def test_memory(tmp_path: Path) -> None:
    run = measured(tmp_path, Wanted(memory=True))
    assert {one.name for one in run.measures} == {"memory.single", "memory.multi"}
    assert all(one.value > 1e6 for one in run.measures)


def test_storage(tmp_path: Path) -> None:
    run = measured(tmp_path, Wanted(storage=(tmp_path,)))
    values = {one.name: one.value for one in run.measures}
    assert set(values) == {
        f"storage.{name}" for name in ("score", "read", "write", "iops", "latency")
    }
    assert 0 <= values["storage.score"] <= 1000
    assert run.target == str(tmp_path)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_storage_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        measured(tmp_path, Wanted(storage=(tmp_path / "none",)))


class Handler(BaseHTTPRequestHandler):
    """Answers with a body, but for /empty, /missing and HEAD."""

    protocol_version = "HTTP/1.1"
    body = b"x" * 100_000

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(b"" if self.path == "/empty" else self.body)

    def answer(self, body: bytes) -> None:
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_network(server: str, tmp_path: Path) -> None:
    run = measured(tmp_path, Wanted(network=(f"{server}/blob",)))
    values = {one.name: one.value for one in run.measures}
    assert 0 < values["network.score"] <= 1000
    assert values["network.latency"] > 0
    assert values["network.bandwidth"] > 0
    assert any("small" in note for note in run.notes)


@pytest.mark.parametrize("path", ["/empty", "/missing"])
def test_network_without_a_body(server: str, path: str) -> None:
    measures, notes = measure_network(server + path, silent, 2, 0.05)
    assert "network.bandwidth" not in {one.name for one in measures}
    assert any("by latency alone" in note for note in notes)


def test_network_that_is_not_there() -> None:
    with pytest.raises(HostError):
        measure_network("http://127.0.0.1:9", silent, 1, 0.05)
    with pytest.raises(InputError):
        measure_network("ftp://somewhere", silent)
    with pytest.raises(InputError):
        measure_network("http://", silent)


def test_score_of_networks() -> None:
    assert score(1e-4, 1.25e9) == 1000
    assert score(0.3, 1e6) == 0
    assert score(1.0, 1.0) == 0
    assert score(0.001, None) > score(0.01, None)
    assert score(0.001, 1e9) > score(0.001, 1e8)


def package(path: Path, names: list[str]) -> str:
    """Write a package with such files; return its integrity."""
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"ok"))
    digest = hashlib.sha512(path.read_bytes()).digest()
    return f"sha512-{base64.b64encode(digest).decode()}"


def test_package_is_checked_and_only_its_library_unpacked(tmp_path: Path) -> None:
    path, target = tmp_path / "p.tgz", tmp_path / "kept" / "typescript"
    target.parent.mkdir()
    names = ["package/lib/tsc.js", "package/lib/lib.d.ts", "package/bin/tsc", "../evil.js"]
    integrity = package(path, [*names, "package/lib/../../up.js", "package/lib/notes.md"])
    assert unpack(path, target, integrity) == ""
    assert sorted(file.name for file in (target / "lib").iterdir()) == ["lib.d.ts", "tsc.js"]
    assert [one.name for one in target.parent.iterdir()] == ["typescript"]
    assert unpack(path, target, integrity) == "", "it is there already"


def test_other_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.tgz"
    package(path, ["package/lib/tsc.js"])
    assert "SHA-512 differs" in unpack(path, tmp_path / "typescript")
    assert not (tmp_path / "typescript").exists()


def test_without_node_or_before_it_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = find_compiler(tmp_path)
    assert isinstance(told, Missing)
    assert told.why == "node is not installed"
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v99\n")
    node.chmod(0o755)
    told = find_compiler(tmp_path, fetch=False)
    assert isinstance(told, Missing)
    assert "not fetched" in told.why
    told = find_compiler(tmp_path)
    assert isinstance(told, Missing)
    assert told.why == "npm is not installed"
