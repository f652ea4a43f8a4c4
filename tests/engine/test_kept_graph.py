"""Graphs kept: whatever changed, they are what a whole evaluation gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import asdict

from engine.evaluate import evaluate
from engine.helped import helped
from engine.kept_graph import Evaluation, KeptGraph
from engine.spec.project import Unit, load_project
from executors.base import HERMETIC
from store.helpers import Helpers
from store.ingest import signature

if TYPE_CHECKING:
    from engine.graph import Graph
    from store.blob_files import BlobFiles
    from store.ingest import Signature
    from store.store import Store
    from tests.engine.conftest import Files

SPEC = """
    [package]
    name = "kept"

    [params]
    opt = 2

    [imports]
    other = { spec = "other/spec.toml" }

    [sources]
    src = { path = "src" }
    docs = { path = "docs", exclude = ["*.tmp"] }

    [toolchains]
    sh = "sh.toml"

    [actions.compile]
    foreach = "src:*.c"
    tools = ["sh"]
    inputs = ["{item}", "src:inc/**"]
    run = ["cc", "-O{opt}", "{item}", "-o", "{out}/{item.stem}.o"]
    outputs = ["{item.stem}.o"]
    env = { NAME = "{item.name}" }
    depfile = true
    resources = { cpus = 2, memory = "1GB", timeout = "5s" }

    [actions.link]
    tools = ["sh"]
    inputs = ["compile", "other:made:*.txt", "docs"]
    script = "cat compile/* > $out/app"
    outputs = ["app"]

    [actions.many]
    matrix = { n = [1, 2] }
    inputs = ["link", "compile:a.o", "src:link"]
    run = ["x", "{out}/{matrix.n}"]
    outputs = ["{matrix.n}"]

    [actions.check]
    kind = "test"
    inputs = ["many"]
    run = ["x"]
"""
OTHER = """
    [package]
    name = "other"

    [sources]
    src = { path = "text" }

    [actions.made]
    foreach = "src:*"
    inputs = ["{item}"]
    run = ["cp", "{item}", "{out}/{item.name}"]
    outputs = ["{item.name}"]
"""


@pytest.fixture(params=(0, 256))
def project(request: pytest.FixtureRequest, files: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A project of two specs, every file of which counts as being at rest; with few recipes, and
    followed as one of many is."""
    monkeypatch.setattr("engine.packed_graph.FEW", request.param)
    for module in ("engine.kept_graph", "engine.toolchains.memory", "engine.toolchains.importer"):
        monkeypatch.setattr(f"{module}.RACY_NS", -(10**15))
    for module in ("store.ingest", "store.follow"):
        monkeypatch.setattr(f"{module}.RACY_NS", -(10**15))
    files.put("spec.toml", SPEC)
    files.put("other/spec.toml", OTHER)
    files.put("sh.toml", '[toolchain]\npaths = ["tool=/bin/sh"]')
    files.put("tool", "a shell")
    for path in ("a.c", "b.c", "inc/a.h", "inc/deep/b.h", "notes"):
        files.put(f"src/{path}", path)
    (files.directory / "src" / "link").symlink_to("notes")
    files.put("docs/x", "x")
    files.put("docs/deep/below/y", "y")
    files.put("other/text/t.txt", "t")
    files.put("other/text/u.txt", "u")
    return files


def kept(store: Store, profile: str | None = None) -> KeptGraph:
    """Return what a new process would have."""
    return KeptGraph(store, Path("spec.toml"), {}, profile, HERMETIC)


def load() -> Unit:
    return load_project(Path("spec.toml"), {})


def anew(store: Store, into: KeptGraph | None = None) -> Evaluation:
    """Evaluate everything."""
    with helped(store, into or kept(store)):
        return evaluate(store, Path("spec.toml"), {}, None, HERMETIC, into)


def test_only_what_was_never_evaluated_has_helpers(
    store: Store, project: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    class Counted(Helpers):
        def __init__(self, files: BlobFiles, first: Callable[[], object] = int) -> None:
            made.append(files)
            super().__init__(files, first)

    monkeypatch.setattr("store.helpers.Helpers", Counted)
    monkeypatch.setattr("engine.evaluate.Helpers", Counted)
    anew(store, kept(store))
    assert made == [store.cas]
    anew(store, kept(store))
    assert len(made) == 1
    project.put("tool", "another shell")  # the toolchain is imported again
    anew(store, kept(store))
    assert len(made) == 2
    anew(store, kept(store, profile="release"))
    assert len(made) == 3


def plain(graph: Graph) -> object:
    """Return all that a graph says."""
    recipes = {
        label: {
            **asdict(recipe, filter=lambda field, _: field.name != "selections"),
            "selections": [
                (one.stage, dict(one.entries), one.digest, one.snapshot and one.snapshot.root)
                for one in recipe.selections
            ],
        }
        for label, recipe in graph.recipes.items()
    }
    return recipes, graph.artifacts, graph.about, graph.isolation


def unchanged(before: Mapping[str, Signature]) -> Mapping[str, Signature]:
    """Return what a watcher tells: the files that look as they did before."""
    return {
        path: mark
        for path, mark in before.items()
        if os.path.lexists(path) and signature(os.lstat(path)) == mark
    }


def write(path: str, text: str = "other") -> Callable[[], object]:
    return lambda: Path(path).write_text(text)


def relink() -> None:
    Path("src/link").unlink()
    Path("src/link").symlink_to("a.c")


def become_link() -> None:
    Path("src/b.c").unlink()
    Path("src/b.c").symlink_to("a.c")


def nothing() -> None:
    pass


def touch() -> None:
    os.utime("src/a.c")


CONTENTS = {
    "nothing": nothing,
    "a leaf": write("src/a.c"),
    "a header": write("src/inc/deep/b.h"),
    "what only a whole source takes": write("docs/x"),
    "deep in a whole source": write("docs/deep/below/y"),
    "a source of the import": write("other/text/t.txt"),
    "what nothing reads": write("src/notes"),
    "the executable bit": lambda: Path("src/b.c").chmod(0o755),
    "where a link leads": relink,
    "a time": touch,
    "an excluded file": write("docs/y.tmp"),
    "a comment in a spec": write("spec.toml", SPEC.replace("    ", "") + "# comment\n"),
    "the layout of an import": write(
        "other/spec.toml", OTHER.replace("    ", "\t").replace("=", " =")
    ),
    "a comment in a toolchain file": write("sh.toml", '# c\n[toolchain]\npaths = ["tool=/bin/sh"]'),
    "the time of a spec": lambda: os.utime("spec.toml"),
}


@pytest.mark.parametrize("change", CONTENTS.values(), ids=CONTENTS.keys())
def test_other_contents_are_taken_in(
    store: Store, project: Files, change: Callable[[], object]
) -> None:
    before = anew(store, kept(store)).watched
    for _ in range(2):
        change()
        found = kept(store).recall(load)
        assert found is not None
        whole = anew(store)
        assert plain(found.graph) == plain(whole.graph)
        assert found.watched == whole.watched
        for label, recipe in whole.graph.recipes.items():
            assert found.graph.resources_of(label) == recipe.resources
        by_told = kept(store).recall(load, told=lambda: unchanged(before))
        assert by_told is not None
        assert plain(by_told.graph) == plain(whole.graph)
        assert by_told.watched == whole.watched
        assert found.graph.root.spec.path == whole.graph.root.spec.path
        assert list(found.graph.recipes) == list(whole.graph.recipes)


FORMS = {
    "a spec": write("spec.toml", SPEC.replace("opt = 2", 'opt = "2"')),
    "an imported spec": write("other/spec.toml", OTHER.replace('"cp"', '"cp", "-a"')),
    "an order": write("spec.toml", SPEC.replace('"link", "compile:a.o"', '"compile:a.o", "link"')),
    "an order of keys": write(
        "spec.toml",
        SPEC.replace("[actions.check]\n    kind = ", "[actions.check]\n    env = {}\n    kind = "),
    ),
    "no TOML": write("spec.toml", SPEC + "]"),
    "no UTF-8": lambda: Path("spec.toml").write_bytes(SPEC.encode() + b"# \xff"),
    "a toolchain file": write("sh.toml", '[toolchain]\npaths = ["tool=/bin/dash"]'),
    "a tool": write("tool", "another shell"),
    "a new file": write("src/c.c"),
    "a file that goes": lambda: Path("src/b.c").unlink(),
    "a file that becomes a link": become_link,
    "a spec that is gone": lambda: Path("other/spec.toml").unlink(),
    "a source that is gone": lambda: Path("docs").rename("gone"),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS.keys())
def test_another_form_is_left_to_a_whole_evaluation(
    store: Store, project: Files, change: Callable[[], object]
) -> None:
    before = anew(store, kept(store)).watched
    change()
    assert kept(store).recall(load) is None
    assert kept(store).recall(load, told=lambda: unchanged(before)) is None


def test_what_was_not_kept_or_kept_for_something_else_is_not_there(
    store: Store, project: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept(store).recall(load) is None
    anew(store, kept(store))
    assert kept(store, "debug").recall(load) is None
    monkeypatch.setattr("engine.kept_graph.engine.__version__", "another")
    assert kept(store).recall(load) is None


def test_specs_that_may_still_change_unseen_are_not_kept(
    store: Store, project: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.kept_graph.RACY_NS", 10**15)
    anew(store, kept(store))
    assert kept(store).recall(load) is None


def test_a_graph_on_a_single_file_is_not_kept(store: Store, project: Files) -> None:
    text = SPEC.replace('docs = { path = "docs", exclude = ["*.tmp"] }', 'docs.path = "docs/x"')
    project.put("spec.toml", text)
    anew(store, kept(store))
    assert kept(store).recall(load) is None
