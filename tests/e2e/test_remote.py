"""Builds that share results by way of remote caches, as users run them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.remote.fake import Fake, Handler, remote

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

GIVEN_UP = "going on without it"

SPEC = """
    [sources.src]
    path = "src"
    [actions.first]
    tools = ["sh"]
    inputs = ["src"]
    script = "echo first; tr a-z A-Z < src/file > $out/first"
    outputs = ["first"]
    [actions.second]
    tools = ["sh"]
    inputs = ["first"]
    script = "cat first/first first/first > $out/second"
    outputs = ["second"]
    [actions.check]
    kind = "test"
    tools = ["sh"]
    inputs = ["second"]
    script = "grep -q TEXT second/second"
    """
"""As `TWO_AND_A_TEST`, but no output has the bytes of the source, so each has to be fetched."""
TWICE = "TEXT\nTEXT\n"


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A remote in this process."""
    with remote() as made:
        yield made


class Team:
    """Two machines: homes, checkouts and stores of their own, and one remote."""

    def __init__(self, first: Bn, second: Bn) -> None:
        self.first = first
        self.second = second

    def share(self, url: str, more: str = "") -> None:
        """Configure the remote on both."""
        for one in (self.first, self.second):
            one.put("bn.toml", f'[[cache.remotes]]\nurl = "{url}"\n{more}\n')


@pytest.fixture
def team(bn: Bn, sh_store: Path, tmp_path: Path) -> Iterator[Team]:
    """Two actions and a test on two machines."""
    from attrs import evolve

    from tests.e2e.conftest import copied

    bn.put("src/file", "text\n")
    bn.spec(SPEC, default="second")
    (tmp_path / "b").mkdir()
    with copied(sh_store, tmp_path / "b") as other:
        shutil.copytree(bn.directory, other.directory, dirs_exist_ok=True)
        homes = [str(tmp_path / "home-a"), str(tmp_path / "home-b")]
        made = [
            evolve(one, env={**one.env, "HOME": home, "XDG_CONFIG_HOME": f"{home}/config"})
            for one, home in zip((bn, other), homes, strict=True)
        ]
        yield Team(*made)


@contextlib.contextmanager
def served(bn: Bn, store: Path) -> Iterator[str]:
    """Run `bn serve` and give its address."""
    command = ("serve", "--bind", "127.0.0.1:0", "--store", str(store), "--workers", "1")
    process = bn.start(*command, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r"http://\S+?(?=/?\s*$)", said)
        assert found, said
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def wrong(bn: Bn) -> list[str]:
    """Return the entries that name what is not there; stores of tests have other faults, too."""
    done = subprocess.run(
        bn.command("store", "verify", "--json"),
        cwd=bn.directory,
        env=bn.env,
        capture_output=True,
        text=True,
        check=False,
    )
    problems = json.loads(done.stdout)["problems"]
    return [one["what"] for one in problems if "outputs" in one["what"]]


def test_two_machines_share_all_results(team: Team, tmp_path: Path) -> None:
    with served(team.first, tmp_path / "server") as url:
        team.share(url)
        assert team.first.ran() == {"first", "second"}
        assert "passed" in team.first("test").stderr

        done = team.second("build")

        assert "fetched 1 result from" in done.stderr
        assert team.second.result("second") == TWICE
        assert team.second.ran() == set()
        assert "cached   check" in team.second("test").stderr
        said = team.second("why", "second").stdout
        assert re.fullmatch(rf"second: fetched from {url} in build \S+\n", said), said
        assert "(100.0%, 2 of them by remote caches), 0 ran" in team.second("cache", "stat").stdout
    assert "up to date" in team.second("build").stderr
    assert wrong(team.second) == []


def test_a_c_project_is_shared_and_changes_run_alone(
    c_project: Bn, cc_store: Path, tmp_path: Path, fake: Fake
) -> None:
    from tests.e2e.conftest import copied

    (tmp_path / "b").mkdir()
    with copied(cc_store, tmp_path / "b") as other:
        c_project.put("bn.toml", f'[[cache.remotes]]\nurl = "{fake.url}"\n')
        shutil.copytree(c_project.directory, other.directory, dirs_exist_ok=True)
        c_project("build")
        assert other.ran() == set()
        for one in (c_project, other):
            one.put("src/b.h", "#define B 43\n")

        assert c_project.ran() == {"compile[src/b.c]", "app"}

        # what is asked for later, too: the action of `a.c` is another one, its outputs are not
        assert other.ran() == set()
        program = str(other.directory / "result/bin/app")
        assert subprocess.run([program], capture_output=True, check=True).stdout == b"43\n"


def test_only_what_is_needed_is_fetched(team: Team, fake: Fake) -> None:
    team.share(fake.url)
    team.first("build")
    second = team.second

    done = second("build", "--download", "minimal")

    assert "not fetched" in done.stderr
    assert not (second.directory / "result").exists()
    assert not any(path.startswith("blobs:get") for path in fake.asked)
    assert wrong(second) == []
    second("store", "gc")
    assert second.json("build", "--download", "minimal")["up_to_date"]
    text = (second.directory / "spec.toml").read_text()
    second.put(
        "spec.toml", text.replace("cat first/first first/first", "tac first/first first/first")
    )
    assert second.ran() == {"second"}
    assert fake.count("blobs:get") == 1
    assert second.result("second") == TWICE


def test_the_targets_come_later_where_only_the_least_was_fetched(team: Team, fake: Fake) -> None:
    team.share(fake.url)
    team.first("build")
    team.second("build", "--download", "minimal")
    team.second("build")
    assert team.second.result("second") == TWICE
    team.second("build", "--download", "minimal")
    assert team.second.result("second") == TWICE


def test_all_can_be_fetched(team: Team, fake: Fake) -> None:
    team.share(fake.url)
    team.first("build")
    team.second("build", "--download", "all")
    fake.fault = refuse
    assert team.second.ran("first") == set()
    assert team.second.result("first") == "TEXT\n"


def test_a_result_that_was_there_is_not_shown_when_it_is_no_longer_so(
    team: Team, fake: Fake
) -> None:
    team.share(fake.url)
    for one in (team.first, team.second):
        one("build")
        one.put("src/file", "more text\n")
    team.first("build")
    assert "not fetched" in team.second("build", "--download", "minimal").stderr
    assert not (team.second.directory / "result").is_symlink()


def refuse(handler: Handler) -> bool:
    """Answer that it may not be."""
    handler.send(403, b"{}")
    return True


def down(fake: Fake) -> None:
    """Nobody is there."""
    fake.url = "http://127.0.0.1:1"


def refusing(fake: Fake) -> None:
    """Every question is refused."""
    fake.fault = refuse


def lying(fake: Fake) -> None:
    """Every blob has wrong bytes."""

    def fault(handler: Handler) -> bool:
        if handler.what != "blobs:get":
            return False
        digests = json.loads(handler.data)["digests"]
        sizes = [(digest, len(fake.blobs[digest])) for digest in digests]
        body = b"".join(b"%s %d\n%s" % (d.encode(), size, bytes(size)) for d, size in sizes)
        handler.send(200, body, "application/x-bn-blobs")
        return True

    fake.fault = fault


@pytest.mark.parametrize("fault", [down, refusing, lying])
def test_a_bad_remote_fails_no_build(team: Team, fake: Fake, fault: object) -> None:
    team.share(fake.url)
    team.first("build")
    assert callable(fault)
    fault(fake)
    team.share(fake.url)

    done = team.second("build")

    assert done.stderr.count(GIVEN_UP) == 1
    assert "2 built" in done.stderr
    assert team.second.result("second") == TWICE
    assert wrong(team.second) == []


def test_what_is_gone_at_the_remote_is_built_here(team: Team, fake: Fake) -> None:
    team.share(fake.url)
    team.first("build")
    team.second("build", "--download", "minimal")
    fake.blobs = {digest: data for digest, data in fake.blobs.items() if data[:1] == b"{"}

    done = team.second("build")

    assert "2 built" in done.stderr
    assert team.second.result("second") == TWICE
    assert wrong(team.second) == []


def test_a_remote_that_takes_nothing_fails_no_build(team: Team, fake: Fake) -> None:
    def full(handler: Handler) -> bool:
        if handler.what != "blobs:put":
            return False
        handler.send(507, b"{}")
        return True

    fake.fault = full
    team.share(fake.url)

    done = team.first("build")

    assert "it is full (507); nothing more is uploaded to it" in done.stderr
    assert "2 of 2 results were not uploaded; bn push tries again" in done.stderr
    fake.fault = lambda _: False
    assert "2 results are at the remote caches" in team.first("push").stderr
    assert team.second.ran() == set()


def test_push_and_pull(team: Team, fake: Fake) -> None:
    team.first("build")
    assert fake.asked == []
    assert "no remote cache is configured" in team.first("push", code=3).stderr
    team.share(fake.url)

    assert team.first.json("push") == {"results": 2, "uploaded": 2, "not_built": 0}
    assert team.second.json("pull") == {"fetched": 2, "here": 2, "missing": []}
    assert team.second.json("pull", "spec.toml", "check")["missing"] == ["check"]

    assert team.second.ran("first", "--no-remote") == set()
    assert team.second.result("first") == "TEXT\n"


def test_without_remotes_none_is_asked(team: Team, fake: Fake) -> None:
    team.share(fake.url)
    assert team.first.ran("--no-remote") == {"first", "second"}
    assert team.second.ran("--executor", "native") == {"first", "second"}
    assert fake.asked == []


def test_a_dry_run_knows_what_remotes_have(team: Team, fake: Fake) -> None:
    team.share(fake.url)
    team.first("build")
    assert "up to date" in team.second("build", "--dry-run").stderr


def test_what_happened_stands_in_the_timeline(team: Team, fake: Fake) -> None:
    team.share(fake.url)
    assert "RemoteUploaded" in events(team.first)
    assert {"RemoteFound", "RemoteFetched"} <= events(team.second)


def events(bn: Bn) -> set[str]:
    """Build and return which kinds of events the timeline has."""
    build = bn.json("build")["build"]
    lines = (bn.store / "builds" / build / "timeline.jsonl").read_text().splitlines()
    return {json.loads(line)["event"] for line in lines}


def test_what_is_only_at_a_remote_is_shown_and_exported(
    team: Team, fake: Fake, tmp_path: Path
) -> None:
    team.share(fake.url)
    team.first("build")
    tree = team.second.json("build", "--download", "minimal")["targets"]["second"]
    line = team.second("show", tree).stdout
    digest = line.split()[1]

    archive = str(tmp_path / "archive")
    team.second("store", "export", "second", "-o", archive)
    assert fake.count("blobs:get") == 1
    assert team.second("show", digest).stdout == TWICE
    (team.second.directory / "bn.toml").unlink()
    assert team.second("show", digest).stdout == TWICE


def test_a_build_without_remotes_loads_nothing_of_them(small: Bn) -> None:
    small("build")
    small.put("src/file", "other\n")
    command = small.command("build")
    command[1:1] = ["-X", "importtime"]
    done = subprocess.run(
        command, cwd=small.directory, env=small.env, capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "engine.session" in loaded
    assert not {name for name in loaded if name.startswith(("engine.remote", "httpx"))}


def test_faults_of_the_configuration_are_placed(small: Bn) -> None:
    small.put("bn.toml", '[[cache.remotes]]\nurl = "cache.example.org"\n')
    assert "is no address of a cache" in small("build", code=3).stderr
    remote = '[[cache.remotes]]\nurl = "http://localhost:1"\n'
    small.put("bn.toml", f'{remote}token_file = "~/.config/token"\n')
    assert "has to be inside of it" in small("build", code=3).stderr
    small.put("bn.toml", "[[cache.remotes]]\nwrite = true\n")
    assert "url" in small("build", code=3).stderr
    assert os.path.exists(small.directory / "bn.toml")
