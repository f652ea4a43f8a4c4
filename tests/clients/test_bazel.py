"""Bazel: three actions, one of them with a directory as its output."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from collections.abc import Iterator

import pytest
from attrs import define

from tests.clients.conftest import Project, Server, program

BUILD = """\
load(":words.bzl", "directory")

genrule(
    name = "words",
    outs = ["words.txt"],
    cmd = "for n in 1 2 3; do echo word $$n; done > $@",
)

genrule(
    name = "upper",
    srcs = ["words.txt"],
    outs = ["upper.txt"],
    cmd = "tr a-z A-Z < $(location words.txt) > $@; echo made",
)

directory(
    name = "tree",
    src = "upper.txt",
)
"""
RULE = """\
def _directory(ctx):
    out = ctx.actions.declare_directory(ctx.label.name + ".d")
    ctx.actions.run_shell(
        inputs = [ctx.file.src],
        outputs = [out],
        command = "mkdir -p %s/in && cp %s %s/in/x && echo y > %s/y" % (
            out.path, ctx.file.src.path, out.path, out.path),
    )
    return [DefaultInfo(files = depset([out]))]

directory = rule(
    implementation = _directory,
    attrs = {"src": attr.label(allow_single_file = True)},
)
"""
OUTPUTS = ("bazel-bin/*.txt", "bazel-bin/tree.d/y", "bazel-bin/tree.d/in/x")


@define
class Bazel:
    """The project, and a server of Bazel's that has it."""

    project: Project
    command: tuple[str, ...]
    cache: str

    def build(self, *options: str, cache: str = "") -> tuple[dict[str, bytes], dict[str, int]]:
        """Build all from nothing; return the outputs, and how many processes were of which kind."""
        self.project.run(*self.command, "clean")
        said = self.project.run(
            *(*self.command, "build", "--spawn_strategy=local", "--color=no"),
            *(f"--remote_cache={cache or self.cache}", *options, "//..."),
        )
        found = re.search(r"INFO: [0-9]+ process(?:es)?: (.*)\.", said)
        assert found, said
        counts = [part.split(" ", 1) for part in found[1].split(", ")]
        outputs = self.project.read(*OUTPUTS)
        assert len(outputs) == 4
        return outputs, {kind: int(number) for number, kind in counts}


@pytest.fixture
def bazel(project: Project, server: Server) -> Iterator[Bazel]:
    path = program("bazel")
    project.put("WORKSPACE", 'workspace(name = "words")\n')
    project.put("BUILD", BUILD)
    project.put("words.bzl", RULE)
    home = project.directory.parent / "home"
    startup = (f"--output_user_root={home}/bazel", "--max_idle_secs=60", "--nohome_rc")
    made = Bazel(project, (path, *startup, "--host_jvm_args=-Xmx300m"), f"{server.place()}/any")
    try:
        yield made
    finally:
        project.run(*made.command, "shutdown")


def test_bazel(bazel: Bazel, guarded: Server) -> None:
    cold, counts = bazel.build()
    assert counts["local"] == 3
    warm, counts = bazel.build()
    assert counts["remote cache hit"] == 3
    assert "local" not in counts
    assert warm == cold

    # An action of which an output is gone, be it in a directory, has to run again.
    for path in ("bazel-bin/words.txt", "bazel-bin/tree.d/y"):
        url = f"{bazel.cache}/cas/{hashlib.sha256(cold[path]).hexdigest()}"
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE")) as answer:
            assert answer.status == 204
    again, counts = bazel.build()
    assert (counts["remote cache hit"], counts["local"]) == (1, 2)
    assert again == cold

    # With tokens: in the address, and as a header; who may only read stores nothing.
    place = f"{guarded.place()}/any"
    shown = f"--remote_header=Authorization=Bearer {guarded.reading}"
    assert bazel.build(shown, cache=place)[1]["local"] == 3
    assert bazel.build(cache=guarded.as_user(place, guarded.writing))[1]["local"] == 3
    again, counts = bazel.build(shown, "--remote_download_toplevel", cache=place)
    assert again == cold
    assert counts["remote cache hit"] == 3
