"""Causes: changes followed through steps to files and parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from engine.explain import Change
from engine.spec.template import Template
from engine.timeline.causes import Causes, documents, in_lines, roots
from engine.timeline.course import Course
from engine.timeline.parameters import settings, shifts
from executors.simulated import Simulation
from store.digest import Digest
from store.objects import Action
from tests.engine.timeline.conftest import steps

if TYPE_CHECKING:
    from tests.engine.conftest import Document, Files
    from tests.engine.timeline.conftest import Recorder

COMPILE: Document = {
    "params": {"opt": 1},
    "actions": {
        "compile": {
            "foreach": ["src:*.c"],
            "inputs": ["{item}"],
            "run": ["cc", "-O{opt}", "{item}"],
            "outputs": ["{item.stem}.o"],
        },
        "link": {"inputs": ["compile"], "run": ["ld"], "outputs": ["app"]},
        "test": {"inputs": ["link:app"], "run": ["check"]},
    },
    "sources": {"src": {"path": "src"}},
}
A, B = "int a;\n", "int b;\n"


def lines(recorder: Recorder, label: str, new: str, old: str) -> list[str]:
    causes = Causes(recorder.workshop.store.cas, recorder.recorded, new, old).of(label)
    return in_lines(causes or ())


def test_a_change_is_followed_to_the_file(recorder: Recorder) -> None:
    for text in (A, A + "int c;\n"):
        recorder.build(recorder.workshop.graph(COMPILE, {"src": {"a.c": text, "b.c": B}}))
    assert lines(recorder, "test", "2026-001", "2026-000") == [
        "link ← compile[src/a.c] ← file src/a.c changed (line 2)"
    ]
    assert lines(recorder, "compile[src/b.c]", "2026-001", "2026-000") == []
    causes = Causes(recorder.workshop.store.cas, recorder.recorded, "2026-001", "2026-000")
    ((between, root),) = roots(causes.of("test") or ())
    assert (between, root.kind, root.name) == (("link", "compile[src/a.c]"), "file", "src/a.c")
    (plain,) = documents(causes.of("test") or ())
    assert (plain["kind"], plain["name"], plain["detail"]) == (
        "dependency",
        "link",
        "(link/app changed)",
    )


def test_what_came_and_went_is_followed_too(recorder: Recorder) -> None:
    for files in ({"a.c": A, "b.c": B}, {"a.c": A}, {"a.c": A, "c.c": B}):
        recorder.build(recorder.workshop.graph(COMPILE, {"src": files}))
    assert lines(recorder, "link", "2026-001", "2026-000") == [
        "compile[src/b.c] (compile/b.o removed)"
    ]
    assert lines(recorder, "link", "2026-002", "2026-001") == [
        "compile[src/c.c] (compile/c.o added)"
    ]


def test_chains_alike_are_told_of_together(recorder: Recorder) -> None:
    names = {f"{letter}.c": f"int {letter};\n" for letter in "abcdef"}
    for level in (1, 2):
        graph = recorder.workshop.graph(COMPILE, {"src": names}, params={"opt": level})
        recorder.build(graph)
    assert lines(recorder, "link", "2026-001", "2026-000") == [
        "compile[src/a.c] and 5 more ← flag -O1 → -O2"
    ]


def test_a_step_below_a_cached_one_is_what_made_its_inputs(recorder: Recorder) -> None:
    first, second = A, A + "int c;\n"
    for text in (first, second, first):  # the third build does not look below link
        recorder.build(recorder.workshop.graph(COMPILE, {"src": {"a.c": text}}), "link")
    third = "// new\n" + A
    recorder.build(recorder.workshop.graph(COMPILE, {"src": {"a.c": third}}), "link")
    assert lines(recorder, "link", "2026-003", "2026-002") == [
        "compile[src/a.c] ← file src/a.c changed (line 1)"
    ]


def test_the_same_action_that_came_out_otherwise_is_said_to_have(recorder: Recorder) -> None:
    recorder.build(recorder.workshop.graph(steps(a="")))
    was = recorder.recorded.was("a", "2026-000")
    assert was is not None
    causes = Causes(recorder.workshop.store.cas, recorder.recorded, "2026-000", "2026-000")
    assert causes.between(was, was) == ()
    (cause,) = causes.between(was, evolve(was, outputs="0" * 64)) or ()
    assert cause.change.kind == "not reproducible"
    assert causes.between(was, evolve(was, action="0" * 64)) is None  # which is not in the store


def test_of_inputs_that_were_not_read_nothing_is_said(recorder: Recorder) -> None:
    document: Document = {
        "actions": {
            "a": {"inputs": ["src"], "run": ["x", "{depfile}"], "depfile": True, "outputs": ["o"]}
        },
        "sources": {"src": {"path": "src"}},
    }
    recorder.workshop.behave = lambda request: Simulation(observed=("src/a.h",))
    for files in ({"a.h": "1\n", "b.h": "1\n"}, {"a.h": "2\n", "b.h": "2\n"}):
        recorder.build(recorder.workshop.graph(document, {"src": files}))
    store = recorder.workshop.store

    def observed(action: Digest) -> tuple[str, ...] | None:
        result = store.actions.result_of(action)
        return None if result is None else result.observed

    causes = Causes(store.cas, recorder.recorded, "2026-001", "2026-000", observed=observed)
    assert in_lines(causes.of("a") or ()) == ["file src/a.h changed (line 1)"]


# parameters


SPEC = """
    [package]
    name = "p"
    [params]
    opt = 1
    who = "me"
    [actions.a]
    run = ["cc", "-O{opt}", "-DWHO={who}", "-c"]
    env = { LEVEL = "level {opt}" }
    [profiles.fast]
    params = { opt = 3 }
    """


def told(files: Files, new: Course, old: Course, change: Change, *commands: str) -> list[str]:
    known = settings(new, old)
    assert known is not None
    actions = [
        Action(
            command=tuple(command.split()),
            input_root=Digest("0" * 64),
            env={"LEVEL": f"level {command[5]}"},
        )
        for command in commands
    ]
    return [str(one) for one in known("a", actions[0], actions[1], change)]


def test_a_flag_comes_from_a_parameter(files: Files) -> None:
    path = str(files.put("spec.toml", SPEC))
    old = Course(build="1", spec=path)
    flag = Change("flag", "", "-O1 → -O2")
    one, two = "cc -O1 -DWHO=me -c", "cc -O2 -DWHO=me -c"
    by_set = Course(build="2", spec=path, sets={"opt": "2"})
    assert told(files, by_set, old, flag, one, two) == ["parameter opt 1 → 2 (--set opt=2)"]
    assert told(files, old, by_set, Change("flag", "", "-O2 → -O1"), two, one) == [
        "parameter opt 2 → 1 (no longer --set opt=2)"
    ]
    profile = Course(build="2", spec=path, profile="fast")
    assert told(files, profile, old, flag, one, two) == ["parameter opt 1 → 2 (--profile fast)"]
    assert told(files, old, old, flag, one, two) == [
        "parameter opt 1 → 2 (its default, spec.toml:5)"
    ]
    variable = Change("variable", "LEVEL", "level 1 → level 2")
    assert told(files, old, old, variable, one, two)[0].startswith("parameter opt 1 → 2")
    assert told(files, old, old, Change("flag", "", "added: -x"), one, f"{one} -x") == []


def test_without_a_spec_no_parameter_is_known(tmp_path: Path) -> None:
    gone = Course(build="1", spec=str(tmp_path / "gone.toml"))
    assert settings(gone, gone) is None


def test_a_parameter_of_an_import_is_set_by_who_imports_it(files: Files) -> None:
    below = """
        [package]
        name = "l"
        [params]
        one = 1
        two = 1
        [actions.a]
        run = ["cc", "-O{one}", "-P{two}"]
        """
    files.put("lib/spec.toml", below)
    text = '[package]\nname = "p"\n[imports]\nl = {spec = "lib/spec.toml", set = {one = 2}}\n'
    course = Course(build="1", spec=str(files.put("spec.toml", text)))
    known = settings(course, course)
    assert known is not None
    old, new = (
        Action(command=("cc", f"-O{n}", f"-P{n}"), input_root=Digest("0" * 64)) for n in (1, 2)
    )
    change = Change("flag", "", "-O1 -P1 → -O2 -P2")
    assert [str(one) for one in known("l:a", old, new, change)] == [
        "parameter one 1 → 2 (set in spec.toml:4)",
        "parameter two 1 → 2 (its default, lib/spec.toml:6)",
    ]
    assert list(known("gone:a", old, new, change)) == []


NAMES = st.lists(st.sampled_from(["opt", "who", "dir"]), min_size=1, max_size=3)
VALUES = st.fixed_dictionaries(
    dict.fromkeys(["opt", "who", "dir"], st.from_regex(r"[a-z0-9]{1,3}", fullmatch=True))
)


@given(NAMES, VALUES, VALUES)
def test_values_are_read_back_from_what_a_template_made(
    names: list[str], before: dict[str, str], after: dict[str, str]
) -> None:
    form = Template("=".join(f"{{{name}}}" for name in names) + ".")
    found = shifts(form, form.expand(before), form.expand(after))
    assert found == {
        name: (before[name], after[name]) for name in names if before[name] != after[name]
    }
    assert shifts(form, "-", "--") == {}
    assert not shifts(Template(re.escape("x")), "x", "y")
