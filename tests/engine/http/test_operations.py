"""What those see who run a server: health, metrics, the log, the dashboard, `bn cache stat`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

import engine.http
from engine.cli.cache import command as cache
from engine.cli.cache.stat import read_metrics, table
from engine.http.adapters.operations import look
from engine.http.hooks import Ended
from engine.http.metrics import COUNTERS, Now, exposition
from engine.http.observing import Observer
from engine.http.reserve import Reserve
from store.errors import InputError
from store.store import Store
from tests.engine.http.abuse.live import Live, living

PLACE = Path(engine.http.__file__).parent


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with two workers that has answered a few requests."""
    place = tmp_path_factory.mktemp("operated")
    with living(place, workers=2, quotas={"team": "50MB"}) as server:
        for number in range(20):
            data = b"%d" % number * 1000
            path = f"/ns/team/cas/{hashlib.sha256(data).hexdigest()}"
            assert server.ask("GET", path).status == 404
            assert server.ask("PUT", path, data).status == 200
            assert server.ask("GET", path).status == 200
        yield server


def test_health(live: Live) -> None:
    answer = live.ask("GET", "/health")
    assert answer.status == 200
    said = json.loads(answer.body)
    assert said["status"] == "ok"
    assert said["version"] == engine.__version__
    assert said["writable"] is True
    assert said["free"] > 0
    assert said["uptime"] >= 0
    assert answer.headers["cache-control"] == "no-store"


def test_metrics_of_all_workers(live: Live) -> None:
    for what in ("hits", "misses", "stored"):
        sample = f'bn_{what}_total{{adapter="bazel",name_space="team"}}'
        live.settles(f"{what} are not added up", lambda name=sample: live.metric(name) == 20)
    assert live.metric('bn_entries_bytes{name_space="team"}') == 30_000
    assert live.metric('bn_quota_bytes{name_space="team"}') == 50_000_000
    assert live.metric("bn_workers") == 2


def test_saved_time_is_told_where_clients_say_it(live: Live) -> None:
    path = "/ns/team/v8/artifacts/00ff?slug=a"
    assert live.ask("PUT", path, b"built", x_artifact_duration="61500").status == 200
    for method in ("GET", "HEAD", "GET"):
        assert live.ask(method, path).status == 200
    sample = 'bn_saved_seconds_total{name_space="team"}'
    live.settles("it is not told", lambda: live.metric(sample) == 123)
    url = f"http://127.0.0.1:{live.port}"
    shown = CliRunner().invoke(cache, ["stat", "--remote", url]).output
    assert "2 min 3 s saved" in shown


def test_metrics_are_valid(live: Live) -> None:
    answer = live.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    for family in families:
        assert family.name.startswith("bn_")
        assert family.documentation
        assert family.type != "unknown"


def test_a_log_that_is_moved_away_is_opened_anew(live: Live) -> None:
    live.ask("GET", "/x/before")
    live.logged("/x/before")
    moved = live.log.with_name("moved.log")
    live.log.rename(moved)
    assert live.process is not None
    live.process.send_signal(signal.SIGHUP)

    def anew() -> bool:
        for _ in range(4):
            live.ask("GET", "/x/after")
        return live.log.exists() and "/x/after" in live.log.read_text()

    live.settles("it is not opened anew", anew)
    live.works()
    assert len(live.pids()) == 4, "a worker died of it"


def test_the_log_says_who_asked_what(live: Live) -> None:
    data = os.urandom(100)
    live.ask("PUT", "/ns/team/x/logged", data)
    (line,) = live.logged("/ns/team/x/logged")
    assert line["peer"] == "127.0.0.1"
    assert line["name_space"] == "team"
    assert (line["method"], line["status"], line["outcome"]) == ("PUT", 200, "stored")
    assert line["received"] == 100
    assert line["seconds"] > 0
    assert line["request"]


def test_health_of_a_store_that_cannot_be_written(store: Store) -> None:
    reserve = Reserve(store.root, 0)
    assert look(store, reserve).status == "ok"
    short = Reserve(store.root, 2**60)
    found = look(store, short)
    assert (found.status, found.code, found.writable) == ("full", 200, False)
    assert "refused" in found.why


def test_health_of_a_store_that_is_gone(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        found = look(store, Reserve(store.root, 0))
        assert (found.status, found.code) == ("failing", 503)
        assert "cannot be read" in found.why
        (tmp_path / "elsewhere").rename(tmp_path / "store")


# the dashboard


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PLACE / "grafana.json").read_text())
    return loaded


def queries() -> list[str]:
    """Return every query of the dashboard."""
    found = [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())
    ]
    return [*found, *(one.get("definition", "") for one in dashboard()["templating"]["list"])]


def test_the_dashboard_asks_for_what_is_told() -> None:
    told = {}
    observer = Observer()
    observer.request(Ended("bazel", "default", "GET", 200, 0, 1, 0.1, "hit"))
    for name, (label, _) in COUNTERS.items():
        observer.count(name, "default" if label else "")
    text = exposition(observer.all(), Now(version="1", started=1.0)).decode()
    for family in text_string_to_metric_families(text):
        told[family.name] = family.type
        for suffix in {"counter": ["_total"], "histogram": ["_bucket"]}.get(family.type, []):
            told[family.name + suffix] = family.type
    asked = {name for query in queries() for name in re.findall(r"\bbn_\w+", query)}
    assert len(asked) > 25
    assert asked <= told.keys()
    for query in queries():
        for name in re.findall(r"(?:rate|increase)\((bn_\w+)", query):
            assert told[name] in ("counter", "histogram"), f"rate of {name}"


def test_the_dashboard_shows_everything_that_is_counted() -> None:
    whole = " ".join(queries())
    for name in COUNTERS:
        assert f"bn_{name}_total" in whole


def test_the_dashboard_has_its_panels_side_by_side() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]


# bn cache stat


def test_cache_stat_of_a_server(live: Live) -> None:
    url = f"http://127.0.0.1:{live.port}"
    done = CliRunner().invoke(cache, ["stat", "--remote", url, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["version"] == engine.__version__
    (row,) = [
        row
        for row in said["protocols"]
        if (row["name_space"], row["protocol"]) == ("team", "bazel")
    ]
    assert (row["hits"], row["misses"], row["rate"]) == (20, 20, 0.5)
    assert said["name_spaces"]["team"]["quota"] == 50_000_000
    shown = CliRunner().invoke(cache, ["stat", "--remote", f"{url}/"]).output
    assert re.search(r"^team +bazel +20 +20 +50\.0%", shown, re.MULTILINE)
    assert re.search(r"^team: \d+ entries, \d+ kB of 50 MB", shown, re.MULTILINE)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "no url", "http://[", "ftp://x", "http://nowhere.invalid"]
)
def test_cache_stat_of_no_server(url: str) -> None:
    done = CliRunner().invoke(cache, ["stat", "--remote", url])
    assert done.exception is not None
    assert type(done.exception).__name__ in ("HostError", "InputError")


@pytest.mark.parametrize("text", ["", "<html>", "a 1\nb", "bn_hits_total 1", "up 1\n"])
def test_what_are_no_metrics(text: str) -> None:
    with pytest.raises(InputError):
        read_metrics(text)


def test_a_table_is_aligned() -> None:
    rows = [("name", "kind", "n"), ("a", "b", "10"), ("longer", "c", "9")]
    assert list(table(rows)) == ["name    kind   n", "a       b     10", "longer  c      9"]


# the units in the chapter


def block(language: str, first: str) -> str:
    """Return the code block of the chapter that begins with a line."""
    text = (PLACE / "README.md").read_text()
    (found,) = re.findall(rf"^```{language}\n({re.escape(first)}.*?)^```$", text, re.M | re.S)
    return str(found)


def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / "bn-serve.service"
    text = block("ini", "[Unit]")
    program = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert program is not None
    unit.write_text(text.replace(program[1], "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "bn-serve" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_what_the_units_start_is_a_command_line(tmp_path: Path) -> None:
    from engine.cli.serve import command as serve

    unit = re.search(r"^ExecStart=\S+ serve (.*)$", block("ini", "[Unit]"), re.MULTILINE)
    container = re.search(r"^CMD (\[.*\])$", block("dockerfile", "FROM"), re.MULTILINE)
    assert unit is not None
    assert container is not None
    for arguments in (unit[1].split(), json.loads(container[1])[1:]):
        parsed = serve.make_context("serve", list(arguments))
        assert parsed.params["bind"]
