"""End-to-end tests of `bn store`: collect, verify, list, export, import, make the index again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

INPUT, HOST, INTEGRITY, USAGE = 3, 4, 5, 2

APP = """
    [sources.src]
    path = "src"
    [actions.first]
    tools = ["sh"]
    inputs = ["src"]
    script = "cat src/a > $out/first"
    outputs = ["first"]
    [actions.app]
    tools = ["sh"]
    inputs = ["first"]
    script = "cat first/first > $out/app; echo said"
    outputs = ["app"]
    """


@pytest.fixture
def app(cold_bn: Bn) -> Bn:
    """A project of two actions, built; no other test has links to the blobs."""
    cold_bn.put("src/a", "one\n")
    cold_bn.spec(APP, default="app")
    cold_bn("build")
    return cold_bn


def age(bn: Bn, days: float) -> None:
    """Make every build and record look older."""
    then = time.time() - days * 86400
    for path in [*bn.store.glob("builds/*/timeline.jsonl"), *bn.store.glob("records/*")]:
        os.utime(path, (then, then))


def keep_nothing(bn: Bn) -> None:
    """Configure that nothing is kept for having been used lately."""
    bn.put("bn.toml", "[store]\nkeep_days = 0\n")


def test_recent_builds_and_results_are_kept(app: Bn) -> None:
    app.put("src/a", "two\n")
    app("build")
    report = app.json("store", "gc")
    assert report["kept"]["recent builds"]["number"] > 10
    assert app.json("store", "verify")["problems"] == []
    app.put("src/a", "one\n")
    assert app.ran() == set()
    assert app("log", "app").stdout == "said\n"


def test_old_builds_go_and_results_stay(app: Bn) -> None:
    keep_nothing(app)
    time.sleep(0.01)
    report = app.json("store", "gc")
    assert report["removed"]["builds"]["number"] == 1
    assert report["removed"]["blobs"]["number"] > 10
    assert app.result("app") == "one\n"
    assert app.json("store", "verify")["problems"] == []
    roots = {row["root"].partition("/")[0] for row in app.json("store", "roots")}
    assert roots == {"artifact", "link"}
    (app.directory / "src/a").write_text("two\n")
    assert app.ran() == {"first", "app"}
    assert app.result("app") == "two\n"


def test_build_that_was_needed_by_a_recent_one_is_kept(app: Bn) -> None:
    age(app, 40)
    (app.directory / "spec.toml").touch()
    assert app.ran() == set(), "its timeline names the result of the target alone"
    app.json("store", "gc")
    (app.directory / "src/b").write_text("not read")
    (app.directory / "src/b").unlink()
    shutil.rmtree(app.store / "records")
    assert app.ran() == set()
    assert app.json("show", json.loads(app("build", "--json").stdout)["result"])


def test_dry_run_says_and_removes_nothing(app: Bn) -> None:
    keep_nothing(app)
    before = sorted(app.store.glob("blobs/*/*"))
    done = app("store", "gc", "--dry-run")
    assert "would remove" in done.stdout
    assert sorted(app.store.glob("blobs/*/*")) == before


def test_size_is_reached_or_what_stands_in_the_way_is_said(app: Bn) -> None:
    report = app.json("store", "gc", "--max-size", "1MB")
    assert report["used"]["store"] < 1_000_000
    assert report["evicted"]
    assert "needed by roots" in app("store", "gc", "--max-size", "1B").stderr
    app("store", "gc", "--max-size", "many", code=USAGE)
    app("build")


def test_store_is_bounded_after_a_build(app: Bn) -> None:
    app.put("bn.toml", '[store]\nmax_size = "100kB"\n')
    app.put("src/a", "two\n")
    app("build")
    blobs = sum(path.stat().st_size for path in app.store.glob("blobs/*/*"))
    assert blobs < 100_000
    assert app.result("app") == "two\n"
    assert app.json("store", "verify")["problems"] == []


def test_verify_finds_and_repairs_what_a_build_then_heals(app: Bn) -> None:
    tree = app.json("build")["targets"]["app"]
    digest = app.json("show", tree)["object"]["entries"]["app"]["file"]
    blob = app.store / "blobs" / digest[:2] / digest[2:]
    data = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(data[:-2] + b" }")
    found = app.json("store", "verify", code=INTEGRITY)
    assert not found["sound"]
    assert "hint" in app("store", "verify", "--sample", "1/1", code=INTEGRITY).stderr
    app("store", "verify", "--repair")
    assert app.json("store", "verify")["sound"]
    app("build")
    assert app.result("app") == "one\n"
    assert app.json("store", "verify")["sound"]
    app("store", "verify", "--sample", "0", code=USAGE)


def test_index_is_made_again_from_the_files(app: Bn) -> None:
    report = app.json("store", "rebuild-index")
    assert report["results"] >= 2
    assert Path(report["aside"]).is_dir()
    shutil.rmtree(app.store / "records")
    assert app.ran() == set()
    shutil.rmtree(app.store / "index")
    shutil.rmtree(app.store / "records")
    done = app("build")
    assert "made again from the files" in done.stderr
    assert "up to date" in done.stderr
    assert any(row["root"].startswith("link/") for row in app.json("store", "roots"))


def test_roots_are_listed_and_let_go_of(app: Bn) -> None:
    rows = app.json("store", "roots")
    assert {row["root"] for row in rows} == {
        "artifact/test.app",
        f"link/{app.directory / 'result'}",
    }
    assert all(row["size"] > 0 and row["live"] for row in rows)
    app("store", "roots", "--remove", "test.app")
    assert len(app.json("store", "roots")) == 1
    error = app.json("store", "roots", "--remove", "test.ap", code=INPUT)["error"]
    assert "there is no root" in error["message"]
    assert "test.app" not in app("store", "roots").stdout


def test_space_is_told_by_root(app: Bn) -> None:
    rows = {row["name"]: row for row in app.json("store", "du")}
    assert rows["artifact/test.app"]["bytes"] == rows[f"link/{app.directory / 'result'}"]["bytes"]
    assert rows["artifact/test.app"]["alone"] == 0
    assert rows["recent builds"]["alone"] > 1000
    assert "needed by" in app("store", "du").stdout


def test_blobs_are_listed_by_prefix(app: Bn) -> None:
    rows = app.json("store", "ls")
    assert {row["kind"] for row in rows} >= {"tree", "action", "result", "realisation", "blob"}
    first = rows[0]["digest"]
    assert [row["digest"] for row in app.json("store", "ls", first[:20])] == [first]
    assert first in app("store", "ls", first[:3]).stdout
    app("store", "ls", "xyz", code=INPUT)


def test_export_and_import_bring_a_cached_build(app: Bn, tmp_path: Path) -> None:
    archive = app.directory / "app.bn"
    app("store", "export", "app", "--with-actions", "-o", str(archive))
    app("store", "export", "app", "--with-actions", "-o", str(tmp_path / "again.bn"))
    assert archive.read_bytes() == (tmp_path / "again.bn").read_bytes()
    elsewhere = {"BN_STORE": str(tmp_path / "elsewhere")}
    said = app("store", "import", str(archive), env=elsewhere)
    assert "test.app" in said.stdout
    assert app.json("store", "verify", env=elsewhere)["sound"]
    steps = app.json("build", env=elsewhere)["steps"]
    assert {step["status"] for step in steps.values()} == {"cached"}
    data = archive.read_bytes()
    archive.write_bytes(data[:-9])
    broken = {"BN_STORE": str(tmp_path / "third")}
    assert "not imported" in app("store", "import", "app.bn", code=INTEGRITY, env=broken).stderr
    assert not list((tmp_path / "third").glob("blobs/*/*"))


def test_export_takes_roots_digests_and_targets(app: Bn, tmp_path: Path) -> None:
    tree = app.json("build")["result"]
    rows = []
    for number, name in enumerate(("test.app", tree, tree[:12], "app", "spec.toml")):
        target = str(tmp_path / f"{number}.bn")
        rows.append(app.json("store", "export", name, "-o", target))
    assert {tuple(row["roots"].values()) for row in rows} == {(tree,)}
    (app.directory / "src/a").write_text("new")
    error = app.json("store", "export", "app", "-o", "x.bn", code=INPUT)["error"]
    assert "is not built as the spec is now" in error["message"]
    app("store", "export", "nothing", "-o", "x.bn", code=INPUT)


def test_read_only_store_is_read_and_a_write_says_so(app: Bn) -> None:
    lines = (
        f"mount --bind '{app.store}' '{app.store}' && mount -o remount,ro,bind '{app.store}'"
        ' || exit 77\nfor words in "build" "log app" "store ls" "store du" "store roots"'
        ' "store verify" "graph" "why app"; do "$@" $words >/dev/null || echo "failed: $words"'
        '; done\n"$@" store gc; echo "gc $?"\necho new > src/a; "$@" build; echo "build $?"\n'
    )
    unshare = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
    done = subprocess.run(
        [*unshare, "sh", "-uc", lines, "sh", *app.command()],
        cwd=app.directory,
        env=dict(app.env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no mount can be made here: {done.stderr.strip()}")
    assert done.stdout == f"gc {HOST}\nbuild {HOST}\n", done.stderr
    assert "read-only" in done.stderr
    assert "Traceback" not in done.stderr


def test_builds_and_collections_at_once_disturb_nobody(app: Bn) -> None:
    app.put("bn.toml", "[store]\nkeep_days = 0\n")
    others = []
    for number in range(2):
        project = app.directory.with_name(f"project{number}")
        shutil.copytree(app.directory, project, symlinks=True)
        (project / "result").unlink()
        others.append(project)
    end = time.monotonic() + 12
    turn = 0
    while time.monotonic() < end:
        turn += 1
        running = []
        for number, project in enumerate(others):
            (project / "src/a").write_text(f"{number} {turn}\n")
            running.append(app.start("build", cwd=project))
        running.append(app.start("store", "gc"))
        for process in running:
            _, said = process.communicate(timeout=100)
            assert process.returncode == 0, said
        for number, project in enumerate(others):
            assert (project / "result/app").read_text() == f"{number} {turn}\n"
    assert turn > 1
    assert app.json("store", "verify")["problems"] == []
