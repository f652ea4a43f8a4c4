"""The C projects of specs/ as workloads: bn's own graph of each, written out for other tools.

bn's actions run where inputs lie under their artifact's name. So all of them can run in one
directory, with each artifact in the directory of its name and an imported spec in one of its own,
and the commands stay as they are.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any, Final

import tomlkit
import trio
from attrs import frozen

from engine.graph import Recipe
from engine.kept_graph import Evaluation
from engine.request import Request, evaluated
from engine.spec.project import Unit
from engine.spec.selector import matcher
from executors.base import DEPFILE, OUT, SHELL
from store.materialise import materialise
from store.store import Store
from tests.bench.model import Action, Edit, Rule, Workload

TOP: Final = Path(__file__).resolve().parents[2]
SPECS: Final = TOP / "specs"


def project(name: str, store: Path, scratch: Path) -> Workload:
    """Return the workload of `specs/NAME/spec.toml`, its sources fetched into a store at `store`.

    Raises BnError where they cannot be had.
    """
    with Store(store) as opened:
        found = evaluated(opened, Request(spec=SPECS / name / "spec.toml"))
        sources = _sources(opened, found, scratch)
    return _Translator(found).workload(name, sources)


def _sources(store: Store, evaluation: Evaluation, scratch: Path) -> dict[str, bytes]:
    """Return the files of all sources by their path in the directory of the build."""
    from engine.sources.realise import realise_source

    files: dict[str, bytes] = {}
    for unit in evaluation.graph.root.units():
        for name, source in unit.spec.file.sources.items():
            base = unit.spec.directory if source.path else Path()
            tree = trio.run(realise_source, store, source, base).tree
            where = scratch / _directory(unit) / name
            where.parent.mkdir(parents=True, exist_ok=True)
            materialise(store.cas, tree, str(where), copy=True)
            for file in sorted(where.rglob("*")):
                if file.is_file():
                    files[str(file.relative_to(scratch))] = file.read_bytes()
    return files


def _directory(unit: Unit) -> str:
    return unit.prefix.replace(":", "/")


def _artifact(recipe: Recipe) -> str:
    """Return the name of the artifact that the recipe makes, or makes a part of."""
    return recipe.label.partition("[")[0]


def _directory_of(recipe: Recipe) -> str:
    """Return the directory of the unit whose action the recipe is of: that leads its name."""
    unit, colon, _ = _artifact(recipe).rpartition(":")
    return f"{unit}{colon}".replace(":", "/")


@frozen
class _Translator:
    """Turns the recipes of an evaluated spec into actions."""

    evaluation: Evaluation

    def workload(self, name: str, sources: dict[str, bytes]) -> Workload:
        graph = self.evaluation.graph
        targets = graph.default_targets()
        labels = [label for target in targets for label in graph.labels_of(target)]
        order = tuple(graph.order(tuple(labels)))
        actions = [self._action(graph.recipes[label]) for label in order]
        read = {path for action in actions for path in action.inputs}
        changed = [p for p in sources if p in read and p.endswith(".c")]
        compiled = [p for p in changed if sources[p].isascii() and self._compiled_alone(p, actions)]
        edit = tuple(compiled or changed)
        ends = [path for label in labels for path in self._outputs(graph.recipes[label])]
        return Workload(
            name=name,
            title=f"{name}: {len(actions)} actions of real C",
            sources={
                **{path: _with_last_line(path, content) for path, content in sources.items()},
                **self.steps(order),
            },
            actions=tuple(actions),
            ends=tuple(ends),
            spec=self._spec(),
            edits={
                "leaf": Edit(paths=edit, line=-1, text="int bn_bench_{n} = 1;"),
                "comment": Edit(paths=edit, line=-1, text="/* {n} */"),
            },
            plain=False,
        )

    def _compiled_alone(self, path: str, actions: list[Action]) -> bool:
        return sum(path in action.inputs for action in actions) == 1

    def _outputs(self, recipe: Recipe) -> list[str]:
        return [f"{_artifact(recipe).replace(':', '/')}/{path}" for path in recipe.outputs]

    def _staged(self, recipe: Recipe) -> list[str]:
        """Return what the recipe reads, by its path as the action sees it."""
        found = [path for selection in recipe.selections for path in selection.entries]
        for need in recipe.needs:
            test = matcher(need.pattern) if need.pattern else None
            outputs = self.evaluation.graph.recipes[need.recipe].outputs
            found += [f"{need.stage}/{path}" for path in outputs if test is None or test(path)]
        return found

    def _action(self, recipe: Recipe) -> Action:
        outputs = self._outputs(recipe)
        home = _directory_of(recipe)
        staged = self._staged(recipe)
        own = f"{_artifact(recipe).rpartition(':')[2]}"
        if recipe.command[:2] == (SHELL, "-eu"):
            script = f"sh {_step_file(recipe)}"
        else:
            words = [word.replace(OUT, own).replace(DEPFILE, "@") for word in recipe.command]
            below = f"cd {home} && " if home else ""
            script = below + re.sub(r"[{}]", "", shlex.join(words))
            script = script.replace(" -MD -MF @", "" if home else "{md}")
        headers = [path for path in staged if path.endswith(".h") and recipe.depfile]
        inputs = [f"{home}{path}" for path in staged if path not in headers]
        name = re.sub(r"[^A-Za-z0-9]", "-", recipe.label)
        rule = Rule(name=name, script=script, common=tuple(f"{home}{path}" for path in headers))
        return Action(rule=rule, inputs=tuple(inputs), output=outputs[0], others=tuple(outputs[1:]))

    def steps(self, labels: tuple[str, ...]) -> dict[str, bytes]:
        """Return the files that hold the scripts of recipes, to be run from the top."""
        files = {}
        for label in labels:
            recipe = self.evaluation.graph.recipes[label]
            if recipe.command[:2] != (SHELL, "-eu"):
                continue
            home, own = _directory_of(recipe), _artifact(recipe).rpartition(":")[2]
            parents = sorted({os.path.dirname(f"{own}/{path}") for path in recipe.outputs})
            lines = [
                f"set -eu\ncd ./{home}\nout={own}",
                f"rm -rf {' '.join(f'{own}/{path}' for path in recipe.outputs)}",
                f"mkdir -p {' '.join(parents)}",
                self._expanded(recipe.command[-1].replace(OUT, own), self._staged(recipe)),
            ]
            files[_step_file(recipe)] = "\n".join(lines).encode()
        return files

    def _expanded(self, script: str, staged: list[str]) -> str:
        """Return a script whose globs name just what the action would see."""

        def listed(match: re.Match[str]) -> str:
            test = matcher(match[0])
            return " ".join(sorted(path for path in staged if test(path))) or match[0]

        return re.sub(r"[\w./-]+/[\w.-]*\*[\w.*-]*", listed, script)

    def _spec(self) -> dict[str, str]:
        """Return bn's files: the specs with sources that are directories, to be changed."""
        files: dict[str, str] = {}
        for unit in self.evaluation.graph.root.units():
            document: Any = tomlkit.parse(unit.spec.path.read_text())
            directory = f"specs/{_directory(unit)}" if unit.prefix else ""
            up = os.path.relpath("/", f"/{directory}")
            for name in unit.spec.file.sources:
                document["sources"][name] = {"path": f"{up}/{_directory(unit)}{name}"}
            for name, where in unit.spec.file.toolchains.items():
                file = (unit.spec.directory / where).resolve()
                files[f"tools/{file.name}"] = file.read_text()
                document["toolchains"][name] = f"{up}/tools/{file.name}"
            for name in unit.imports:
                below = f"specs/{_directory(unit.imports[name])}spec.toml"
                document["imports"][name]["spec"] = f"{up}/{below}"
            files[f"{directory}spec.toml"] = tomlkit.dumps(document)
        return files


def _step_file(recipe: Recipe) -> str:
    return f"steps/{re.sub(r'[^A-Za-z0-9]', '-', recipe.label)}.sh"


def _with_last_line(path: str, content: bytes) -> bytes:
    """Return a C file with a line at its end that may be changed."""
    if not path.endswith(".c"):
        return content
    return content.rstrip(b"\n") + b"\n/* end */\n"
