"""Taint: what was made of something bad is listed, dropped, and refused by servers."""

from __future__ import annotations

from typing import Any

from store.digest import digest_bytes
from tests.e2e.caches import CacheServer, builder, get, remote, steps
from tests.e2e.conftest import TWO, Bn


def test_all_that_was_built_from_something_bad(project: Bn) -> None:
    project.spec(
        TWO
        + """
    [actions.third]
    tools = ["sh"]
    inputs = ["second"]
    script = "true"
    outputs = []
    [actions.other]
    tools = ["sh"]
    script = "echo other > $out/other"
    outputs = ["other"]
    """,
        default="third other",
    )
    report = project.json("build")
    actions = {label: step["action"] for label, step in report["steps"].items()}
    wanted = {"first", "second", "third"}
    bad: dict[str, Any] = {}
    for entry in ("first", actions["first"]):
        bad = project.json("cache", "taint", entry)
        assert {one["labels"][0] for one in bad["actions"]} == wanted
        assert bad["builds"] == [report["build"]]
        assert bad["artifacts"] == ["test.third"] or bad["artifacts"] == []
    second = project.json("cache", "taint", "second")
    assert {one["labels"][0] for one in second["actions"]} == {"second", "third"}
    blob = digest_bytes(b"first\n")
    found = project.json("cache", "taint", blob)
    assert found["kind"] == "blob"
    assert {one["labels"][0] for one in found["actions"]} == wanted
    why = {one["labels"][0]: one["because"] for one in bad["actions"]}
    assert why["first"] is None
    assert why["second"]["where"] == "inputs"
    assert why["second"]["path"].startswith("first")
    assert why["second"]["action"] == actions["first"]
    text = project("cache", "taint", "first")
    assert "because of first" in text.stdout
    assert "3 actions, 3 results, 3 realisations, 1 builds" in text.stderr
    assert "no artifact" in project("cache", "taint", "nothing", code=3).stderr
    project("cache", "taint", "0" * 64, code=3)


def test_what_is_dropped_is_built_again_and_nothing_else(project: Bn) -> None:
    project("build")
    assert project.ran() == set()
    project("cache", "taint", "second", "--drop")
    assert "up to date" not in project("build", "--dry-run").stderr
    assert project.ran() == {"second"}
    project("cache", "taint", "first", "--drop")
    assert project.ran() == {"first", "second"}
    assert project.ran() == set()
    project("cache", "taint", "first", "--drop")
    project("store", "rebuild-index")
    assert project.ran() == {"first", "second"}


def test_a_toolchain_that_is_bad_spoils_all_that_used_it(project: Bn) -> None:
    report = project.json("build")
    document = project.json("show", report["steps"]["first"]["action"])["object"]
    bad = project.json("cache", "taint", document["toolchains"][0])
    found = {one["labels"][0]: one["because"] for one in bad["actions"] if one["labels"]}
    assert {"first", "second"} <= found.keys()
    assert found["first"]["where"] == "toolchain"


def test_servers_drop_and_refuse_what_is_bad(project: Bn, server: CacheServer) -> None:
    (project.directory / "write").write_text(server.token("ci", "write"))
    (project.directory / "admin").write_text(server.token("boss", "admin"))
    ci = builder(project, "ci", remote(server.url, token_file="write"))
    ended = steps(ci)
    action = ended["first"]["action"]
    token = (project.directory / "write").read_text()
    assert get(server, f"actions/{action}", token) == 200
    assert "403" in ci("cache", "taint", "first", "--remote", code=4).stderr
    ci.put("bn.toml", remote(server.url, token_file=ci.directory / "admin"))
    said = ci.json("cache", "taint", "first", "--remote", "--drop")
    assert said["remotes"][server.url] >= 4
    for name in ("first", "second"):
        assert get(server, f"actions/{ended[name]['action']}", token) == 404
    # the same from elsewhere is not taken in either
    other = builder(project, "other", remote(server.url, token_file="write"))
    assert other.ran() == {"first", "second"}
    assert get(server, f"actions/{action}", token) == 404
