"""The cache server beside nginx with the same files: `python -m tests.bench.serve [SECONDS [ROW]]`.

wrk (2 threads, 32 connections) asks all in turns, several times; the table has medians. It needs
nginx and wrk on the PATH. An upload that was acknowledged survives, of nginx and of bn with
durability `process`, the server; with `disk` a power cut, too.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

TOP: Final = Path(__file__).resolve().parents[2]
ROUNDS: Final = 5
SECONDS: Final = 4
FILES: Final = {"4k": 4096, "1m": 2**20}

_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}

CONFIGURATION: Final = """
daemon off; worker_processes {workers}; pid {place}/nginx.pid; error_log {place}/error.log;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
    keepalive_requests 1000000000; client_max_body_size 0;
    client_body_temp_path {place}/temp; proxy_temp_path {place}/t1; fastcgi_temp_path {place}/t2;
    uwsgi_temp_path {place}/t3; scgi_temp_path {place}/t4;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {place}/files;
        location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
    }}
}}
"""

PUT: Final = """
local thread = 0
function setup(t) t:set("number", thread); thread = thread + 1 end
function init()
    math.randomseed(os.time() * 100 + number)
    rest = string.rep("x", {size} - 40)
    run = string.format("{run}-%d-", number)
    count = 0
end
function request()
    count = count + 1
    local name = run .. count
    return wrk.format("PUT", "/generic/put/" .. name, nil, string.format("%-40s", name) .. rest)
end
"""


@frozen
class Figures:
    """What wrk found: requests per second, milliseconds, and answers that were no success."""

    rate: float
    median: float
    p99: float
    bad: int = 0


@frozen
class Row:
    """A measurement of both, with the least share of nginx's rate that is aimed at."""

    name: str
    nginx: Figures
    bn: Figures
    bar: float
    ratio: float
    """The median of what the turns say, each with its own neighbour."""


def main() -> None:
    """Measure in one run and print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    wanted = " ".join(sys.argv[2:])
    with tempfile.TemporaryDirectory(prefix="bn-bench-") as directory:
        place = Path(directory)
        with (
            nginx(place / "nginx") as one,
            bn(place / "process", "process") as other,
            bn(place / "disk", "disk") as third,
        ):
            for name, size in FILES.items():
                data = os.urandom(size)
                for port in (one, other):
                    put(port, f"/generic/{name}", data)
            rows = [
                row for many in measure(one, other, third, place, seconds, wanted) for row in many
            ]
    line = "{:<16} {:>10} {:>10} {:>7} {:>5}   {:>9} {:>9} {:>7}  {}\n"
    heads = ("", "nginx/s", "bn/s", "ratio", "bar", "nginx p99", "bn p99", "ratio", "errors")
    sys.stdout.write(line.format(*heads))
    for row in rows:
        rates = (f"{row.nginx.rate:.0f}", f"{row.bn.rate:.0f}", f"{row.ratio:.2f}")
        times = (f"{row.nginx.p99:.2f}", f"{row.bn.p99:.2f}", f"{row.bn.p99 / row.nginx.p99:.2f}")
        errors = f"{row.nginx.bad} {row.bn.bad}"
        sys.stdout.write(line.format(row.name, *rates, f"{row.bar:g}", *times, errors))


def measure(
    one: int, other: int, third: int, place: Path, seconds: float, wanted: str
) -> Iterator[list[Row]]:
    """Yield the rows; the servers are asked in turns, so that what else the machine does is
    shared."""
    for name, bar in (("4k", 0.35), ("1m", 0.8)):
        if f"GET {name}".startswith(wanted):
            names = {f"GET {name}": (other, bar)}
            yield _rows(names, one, seconds, f"/generic/{name}")
    for name, bar in (("4k", 0.3), ("1m", 0.0)):
        if f"PUT {name}".startswith(wanted):
            names = {f"PUT {name} process": (other, bar), f"PUT {name} disk": (third, 0.0)}
            yield _rows(names, one, seconds, "/", script=(place, FILES[name]))


def _rows(
    names: dict[str, tuple[int, float]],
    one: int,
    seconds: float,
    what: str,
    script: tuple[Path, int] | None = None,
) -> list[Row]:
    figures: dict[int, list[Figures]] = {one: [], **{port: [] for port, _ in names.values()}}
    for _ in range(ROUNDS):
        for port, found in figures.items():
            more = []
            if script is not None:
                path = script[0] / "put.lua"
                path.write_text(PUT.format(size=script[1], run=secrets.token_hex(4)))
                more = ["-s", str(path)]
            found.append(wrk(port, what, seconds, more))
    return [
        Row(
            name,
            _median(figures[one]),
            _median(figures[port]),
            bar,
            statistics.median(
                mine.rate / theirs.rate
                for mine, theirs in zip(figures[port], figures[one], strict=True)
            ),
        )
        for name, (port, bar) in names.items()
    ]


def _median(figures: list[Figures]) -> Figures:
    return Figures(
        statistics.median(one.rate for one in figures),
        statistics.median(one.median for one in figures),
        statistics.median(one.p99 for one in figures),
        sum(one.bad for one in figures),
    )


def wrk(port: int, path: str, seconds: float, more: list[str]) -> Figures:
    """Ask a server for so long."""
    command = ["wrk", "-t2", "-c32", f"-d{seconds:g}s", "--latency", *more]
    url = f"http://127.0.0.1:{port}{path}"
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    assert rate, said
    bad = re.search(r"Non-2xx or 3xx responses: ([0-9]+)", said)
    broken = re.search(r"Socket errors: (.*)", said)
    count = int(bad[1]) if bad else 0
    if broken:
        count += sum(map(int, re.findall(r"[0-9]+", broken[1])))
    return Figures(float(rate[1]), _latency(said, 50), _latency(said, 99), count)


def _latency(said: str, share: int) -> float:
    found = re.search(rf"{share}%\s+([0-9.]+)(us|ms|s|m)\b", said)
    assert found, said
    return float(found[1]) * _UNITS[found[2]]


def put(port: int, path: str, data: bytes) -> None:
    """Upload a file."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method="PUT")
    with urllib.request.urlopen(request, timeout=30):
        pass


@contextmanager
def nginx(place: Path) -> Iterator[int]:
    """Run nginx on a directory of its own and give its port."""
    (place / "files").mkdir(parents=True)
    port = free_port()
    workers = len(os.sched_getaffinity(0))
    user = "user root;" if os.getuid() == 0 else ""
    text = CONFIGURATION.format(place=place, port=port, workers=workers, user=user)
    (place / "nginx.conf").write_text(text)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    command = [program, "-p", str(place), "-e", str(place / "error.log")]
    with running([*command, "-c", str(place / "nginx.conf")], port, {}):
        yield port


@contextmanager
def bn(place: Path, durability: str) -> Iterator[int]:
    """Run the cache server on a store of its own and give its port."""
    place.mkdir()
    port = free_port()
    (place / "bn.toml").write_text(f'[serve]\ndurability = "{durability}"\n')
    command = [str(TOP / "bn"), "serve", "--bind", f"127.0.0.1:{port}"]
    env = {"BN_STORE": str(place / "store")}
    with running([*command, "--config", str(place / "bn.toml")], port, env):
        yield port


@contextmanager
def running(command: list[str], port: int, env: dict[str, str]) -> Iterator[None]:
    """Run a server until its port answers, and end it afterwards."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
