"""Plans kept: whatever changed, a build comes to what one comes to that knows nothing."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine import session
from engine.history import History
from engine.kept_plan import KeptPlan
from engine.plan import Cached
from engine.request import Request
from engine.result import BuildStatus, Built, Ended
from engine.retention import collect_garbage, read_past
from engine.session import Report, build
from engine.timeline.events import BuildStarted, StepCached, StepsCached
from executors.base import ExecutionRequest, Outcome, Status
from store.cas import MissingBlob
from store.digest import digest_bytes
from store.objects import Directory, File
from store.policy import Policy
from store.store import Store
from store.trees import build_tree

if TYPE_CHECKING:
    from engine.timeline.events import Event
    from tests.engine.conftest import Files

SPEC = """
[package]
name = "kept"
default = ["top"]

[params]
flag = "a"

[sources]
src = { path = "src" }

[actions.leaf]
foreach = "src:*.txt"
inputs = ["{item}", "src:common.h"]
run = ["leaf", "{flag}"]
outputs = ["{item.stem}.o"]

[actions.shared]
foreach = "src:*.txt"
inputs = ["{item}"]
run = ["shared"]
outputs = ["same/{item.stem}"]

[actions.every]
inputs = ["leaf"]
run = ["every"]
outputs = ["every"]

[actions.some]
inputs = ["shared", "leaf:*1.o", "src:common.h"]
run = ["some"]
outputs = ["some"]

[actions.top]
inputs = ["every", "some"]
run = ["top"]
outputs = ["top"]
"""
NAMES = [f"f{number}" for number in range(12)]

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.engine.test_kept_plan import build_beside
build_beside(sys.argv[2], sys.argv[3])
"""


class Made:
    """An executor whose actions make of their inputs, and of nothing else, one of few results, so
    that different inputs may come to the same."""

    isolation = "native.1"

    def __init__(self, store: Store) -> None:
        self._cas = store.cas

    def close(self) -> None:
        """Nothing is kept between actions."""

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Do an action at once."""
        action = request.action
        if not self._cas.complete(Directory(action.input_root)):
            raise MissingBlob(action.input_root)
        text = digest_bytes(f"{action.input_root} {action.command}".encode())[:1].encode()
        text += b"".join(chance)
        while_it_runs.pop()() if while_it_runs else None
        entries = {path: File(self._cas.put_bytes(text), len(text)) for path in action.outputs}
        return Outcome(
            status=Status.SUCCEEDED,
            exit_code=0,
            log=self._cas.put_object(b""),
            outputs=build_tree(self._cas, entries),
            wall_seconds=0.001,
            cpu_seconds=0.001,
        )


while_it_runs: list[Any] = []
chance: list[bytes] = []
"""What else is in the results of actions."""


def quick(patch: pytest.MonkeyPatch) -> None:
    """Have small graphs be kept with their plans, and files count as being at rest at once."""
    for module in ("engine.kept_graph", "store.ingest", "store.follow"):
        patch.setattr(f"{module}.RACY_NS", -(10**15))
    patch.setattr("engine.packed_graph.FEW", 0)
    patch.setattr("engine.kept_plan.FEWEST", 1)
    patch.setattr("engine.kept_plan.MOST_NEWS", 4)
    patch.setattr("engine.ahead.make_executor", lambda name, store: Made(store))


@pytest.fixture
def project(files: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    quick(monkeypatch)
    files.put("spec.toml", SPEC)
    files.put("src/common.h", "common")
    for name in NAMES:
        files.put(f"src/{name}.txt", name)
    yield files
    while_it_runs.clear()
    chance.clear()


def request(targets: tuple[str, ...] = (), flag: str = "a") -> Request:
    sets = {} if flag == "a" else {"flag": flag}
    return Request(spec=Path("spec.toml"), executor="native", targets=targets, sets=sets)


def build_in(root: Path, asked: Request) -> tuple[Report, dict[str, Any]]:
    """Build; return the report, and all that should not depend on what was kept."""
    told: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, BuildStarted):  # again, as something was gone
            told.clear()
        told.append(event)

    with Store(root, policy=Policy(keep_days=1)) as store:
        report = build(store, asked, [listen])
        assert report.result.status is BuildStatus.OK
        history = History(store, report.evaluation.graph.about.spec)
        steps = report.result.steps
        ran = {label for label, step in steps.items() if isinstance(step, Built)}
        cached = [one.label for one in told if isinstance(one, StepCached)]
        for one in told:
            if isinstance(one, StepsCached):
                cached += one.labels
        assert sorted(cached) == sorted(steps.keys() - ran)
        past = read_past(root / "builds" / report.result.build)
        return report, {
            "steps": {label: (one.action, one.outputs) for label, one in _whole(steps)},
            "trees": report.trees,
            "ran": ran,
            "histories": {label: history.of(label)[0].action for label in steps},
            "recipes": {label: report.evaluation.graph.digest_of(label) for label in steps},
            "named": (set(past.needs), past.cached, past.ran),
        }


def _whole(steps: Mapping[str, Ended]) -> Iterator[tuple[str, Cached | Built]]:
    for label, step in steps.items():
        assert isinstance(step, Cached | Built)
        yield label, step


def build_beside(root: str, flag: str) -> None:
    """Build with another parameter, in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        build_in(Path(root), request(flag=flag))


def beside(root: Path, flag: str) -> None:
    here = Path(__file__).parents[2]
    command = [sys.executable, "-I", "-c", CHILD, str(here), str(root), flag]
    subprocess.run(command, check=True, cwd=os.getcwd(), timeout=120)


def change(kind: str, chance: random.Random) -> None:
    """Change something of the project."""
    there = sorted(Path("src").glob("*.txt"))
    one = chance.choice(there)
    match kind:
        case "edit":
            one.write_text(chance.choice("abc"))
        case "touch":
            os.utime(one)
        case "mode":
            one.chmod(chance.choice((0o644, 0o755)))
        case "header":
            Path("src/common.h").write_text(chance.choice("abc"))
        case "several":
            for path in chance.sample(there, min(6, len(there))):
                path.write_text(chance.choice("abcdef"))
        case "add":
            Path(f"src/n{chance.randrange(4)}1.txt").write_text("new")
        case "remove" if len(there) > 4 and one.stem != "f1":
            one.unlink()
        case "rename" if one.stem != "f1":
            one.rename(one.with_stem(f"r{chance.randrange(9)}"))
        case "comment":
            Path("spec.toml").write_text(f"{SPEC}# {chance.random()}\n")
        case "spec":
            word = chance.choice(("every", "other"))
            Path("spec.toml").write_text(SPEC.replace('run = ["every"]', f'run = ["{word}"]'))


KINDS = (
    *("edit",) * 6,
    *("touch", "mode", "header", "several", "add", "remove", "rename", "comment", "spec"),
    *("collect", "other targets", "another flag", "beside"),
)


@pytest.mark.parametrize("seed", range(6))
def test_a_build_comes_to_what_one_does_that_knows_nothing(
    project: Files, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    dice = random.Random(seed)
    place = tmp_path_factory.mktemp("stores")
    root, reference = place / "store", place / "reference"
    build_in(root, request())
    for _ in range(25):
        kind = dice.choice(KINDS)
        targets: tuple[str, ...] = ()
        flag = "a"
        if kind == "collect":
            with Store(root, policy=Policy(keep_days=dice.choice((0, 1)))) as store:
                collect_garbage(store)
        elif kind == "other targets":
            targets = dice.choice((("every",), ("leaf", "top"), ("some", "leaf[src/f1.txt]")))
        elif kind == "another flag":
            flag = "b"
        else:
            change(kind, dice)
        if dice.random() < 0.3:
            change("edit", dice)
        shutil.rmtree(reference, ignore_errors=True)
        shutil.copytree(root, reference, symlinks=True)
        shutil.rmtree(reference / "records")
        if kind == "beside":
            while_it_runs.append(lambda: beside(root, "b"))
        _, found = build_in(root, request(targets, flag))
        while_it_runs.clear()
        _, wanted = build_in(reference, request(targets, flag))
        if kind == "beside":  # it may have written histories since, and found what that one made
            del found["histories"], wanted["histories"]
        assert found == wanted, kind


@pytest.mark.parametrize("seed", range(4))
def test_outputs_that_are_gone_are_made_again_where_somebody_needs_them(
    project: Files, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    dice = random.Random(seed)
    place = tmp_path_factory.mktemp("stores")
    root, reference = place / "store", place / "reference"
    for _ in range(8):
        change("edit", dice)
        build_in(root, request())
        shutil.rmtree(reference, ignore_errors=True)
        shutil.copytree(root, reference, symlinks=True)
        shutil.rmtree(reference / "records")
        for path in root.glob("blobs/*/*"):
            if dice.random() < 0.2:
                path.chmod(0o644)
                path.unlink()
        change("edit", dice)
        assert build_in(root, request())[0].trees == build_in(reference, request())[0].trees


def test_what_was_gone_is_missed_once(
    project: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.kept_plan.MOST_NEWS", 64)
    root = tmp_path / "store"
    tried: list[bool] = []
    plainly = session._build

    def counted(store: Store, asked: Request, watchers: Any, again: bool) -> Report:
        tried.append(again)
        return plainly(store, asked, watchers, again)

    monkeypatch.setattr(session, "_build", counted)
    for text in "xy":
        Path("src/f1.txt").write_text(text)
        build_in(root, request())
    for path in root.glob("blobs/*/*"):
        path.chmod(0o644)
        path.unlink()
    chance.append(b"other results of the same actions")
    for number, text in enumerate("zabc"):
        tried.clear()
        Path("src/f1.txt").write_text(text)
        build_in(root, request())
        assert tried == ([False, True] if number == 0 else [False])


@pytest.mark.parametrize("before", [(), ("x", "y", "z"), ("common",)], ids=["new", "leaf", "all"])
def test_what_stands_is_not_looked_at(
    project: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...]
) -> None:
    monkeypatch.setattr("engine.kept_plan.MOST_NEWS", 8)
    root = tmp_path / "store"
    build_in(root, request())
    for text in before:
        Path("src/common.h" if text == "common" else "src/f1.txt").write_text(text)
        build_in(root, request())
    Path("src/f2.txt").write_text("z")
    with Store(root) as store:
        asked = request()
        report = build(store, asked, [])
        graph = report.evaluation.graph
        kept = KeptPlan.of(store, graph)
        assert kept is not None
        below = [f"leaf[src/{name}.txt]" for name in NAMES]
        recipes: Any = graph.recipes
        some, rest = kept.standing([recipes.number_of(label) for label in below])
        news = {"leaf[src/f1.txt]"} if "x" in before else set[str]()
        assert set(recipes.labels_at(rest)) == {"leaf[src/f2.txt]", *news}
        assert len(some) == len(NAMES) - 1 - len(news)
        kept.steps(some)
        assert kept.is_told


@pytest.mark.parametrize("many", [0, 3, 512])
def test_what_many_came_to_is_made_one_as_if_nothing_was_kept(
    project: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr("engine.kept_plan.MOST_EXCHANGED", many)
    root = tmp_path / "store"
    for number, text in enumerate(["", "common.h", "f1.txt", "f2.txt", "common.h", "f1.txt"]):
        if text:
            Path(f"src/{text}").write_text(f"{number}")
        found, _ = build_in(root, request())
        with monkeypatch.context() as patch:
            patch.setattr("engine.kept_plan.FEWEST", 1000)
            plain, _ = build_in(tmp_path / f"plain.{number}", request())
        assert found.trees == plain.trees
