"""Recipes of one action: its matrix, items and templates written out, all faults noted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from attrs import evolve, frozen

from engine.artifacts import Artifacts, SourceFiles, SpecFaultError, matching
from engine.graph import Need, Recipe, Resources, Selection, recipe_digest
from engine.spec.faults import Fault, KeyPath, nearest
from engine.spec.model import ActionSpec, Scalar
from engine.spec.project import Unit
from engine.spec.selector import Selector, matcher, may_match_below
from engine.spec.template import UnknownNameError, expand
from engine.units import parse_duration, parse_size
from executors.base import BASE_ENV, DEPFILE, OUT, SHELL
from store.digest import Digest

Part = TypeVar("Part")
Tools = tuple[tuple[Digest, ...], Mapping[str, str]]
"""Toolchain trees, and the variables that they set."""


@frozen(eq=False)
class Item:
    """One file of a `foreach`: where it is staged and the selector that names just it."""

    path: str
    selector: Selector

    def names(self) -> dict[str, str]:
        """Return the template names that it gives."""
        directory, _, name = self.path.rpartition("/")
        stem = name.rpartition(".")[0] or name
        return {"item": self.path, "item.name": name, "item.stem": stem, "item.dir": directory}


class ActionExpander:
    """Expands one action into its recipes."""

    def __init__(self, artifacts: Artifacts, unit: Unit, name: str) -> None:
        self.artifacts = artifacts
        self.faults: list[Fault] = []
        self.unit = unit
        self.name = name
        self.spec: ActionSpec = unit.spec.file.actions[name]
        self.names = {
            **{key: _text(value) for key, value in unit.params.items()},
            "out": OUT,
            "package.name": unit.spec.file.package.name,
            "package.version": unit.spec.file.package.version,
            **({"depfile": DEPFILE} if self.spec.depfile else {}),
        }

    def recipes(self) -> tuple[Recipe, ...]:
        """Return the recipes; none where there are faults."""
        for check in (self._check_command, self._check_kind, self._check_env):
            self._part(check, None)
        resources = self._part(self._resources, Resources())
        no_tools: Tools = ((), {})
        tools = self._part(self._tools, no_tools)
        writers: dict[str, str] = {}
        made: list[Recipe] = []
        none: list[Mapping[str, Scalar]] = []
        for combination in self._part(self._combinations, none):
            for item in self._items(combination):
                recipe = self._recipe(combination, item, resources, tools)
                self._part(partial(self._claim, recipe, writers), None)
                made.append(recipe)
        return () if self.faults else tuple(made)

    def _part(self, part: Callable[[], Part], otherwise: Part) -> Part:
        """Return what `part` gives, or `otherwise` with its fault noted: every part is tried, so
        that all faults are reported at once."""
        try:
            return part()
        except SpecFaultError as error:
            message = f"action {self.name!r}: {error.message}"
            fault = self.unit.fault(error.path, message, error.hint, error.at_key)
            if fault not in self.faults:
                self.faults.append(fault)
            return otherwise

    def _at(self, *path: str | int) -> KeyPath:
        return ("actions", self.name, *path)

    def _check_command(self) -> None:
        spec = self.spec
        if (spec.run is None) == (spec.script is None):
            both = "has both" if spec.run is not None else "needs"
            raise SpecFaultError(self._at(), f"{both} 'run' or 'script': give one", at_key=True)
        if spec.run is not None and not spec.run:
            raise SpecFaultError(self._at("run"), "'run' is empty")
        if spec.script is not None and not spec.tools:
            hint = 'name a toolchain with a shell: tools = ["sh"]'
            raise SpecFaultError(self._at("script"), "a script needs a shell", hint, at_key=True)

    def _check_kind(self) -> None:
        if self.spec.kind not in ("build", "test"):
            raise SpecFaultError(self._at("kind"), '\'kind\' is "build" or "test"')

    def _check_env(self) -> None:
        for key in self.spec.env:
            if not key or "=" in key or "\0" in key:
                at = self._at("env", key)
                raise SpecFaultError(at, f"{key!r} cannot name a variable", at_key=True)
            if key in BASE_ENV and key != "PATH":
                raise SpecFaultError(
                    self._at("env", key), f"variable {key!r} is bn's own", at_key=True
                )

    def _resources(self) -> Resources:
        wanted = self.spec.resources
        if wanted.cpus < 1:
            raise SpecFaultError(self._at("resources", "cpus"), "'cpus' is at least 1")
        values: dict[str, float | None] = {}
        for key, text, parse in (
            ("memory", wanted.memory, parse_size),
            ("timeout", wanted.timeout, parse_duration),
        ):
            try:
                values[key] = parse(text) if text is not None else None
            except ValueError as error:
                raise SpecFaultError(self._at("resources", key), str(error)) from None
        memory = values["memory"]
        return Resources(
            cpus=wanted.cpus,
            memory=None if memory is None else int(memory),
            timeout=values["timeout"],
        )

    def _tools(self) -> Tools:
        trees: list[Digest] = []
        env: dict[str, str] = {}
        for number, tool in enumerate(self.spec.tools):
            if tool not in self.unit.spec.file.toolchains:
                hint = nearest(tool, self.unit.spec.file.toolchains, "toolchains")
                raise SpecFaultError(self._at("tools", number), f"unknown toolchain {tool!r}", hint)
            tree, variables = self.artifacts.materials.toolchains[self.unit.prefix, tool]
            trees.append(tree)
            env = {**variables, **env}
        return tuple(dict.fromkeys(trees)), env

    def _combinations(self) -> list[Mapping[str, Scalar]]:
        axes = self.spec.matrix
        for axis, values in axes.items():
            if not values:
                raise SpecFaultError(self._at("matrix", axis), f"axis {axis!r} has no values")
        for key in self.spec.when:
            if key not in axes and key not in self.unit.params:
                hint = nearest(key, [*axes, *self.unit.params], "axes and parameters")
                at = self._at("when", key)
                raise SpecFaultError(at, f"unknown name {key!r}", hint, at_key=True)
        made: list[Mapping[str, Scalar]] = []
        for values in itertools.product(*axes.values()):
            combination: dict[str, Scalar] = dict(zip(axes, values, strict=True))
            known = {**self.unit.params, **combination}
            if all(_allows(known[key], wanted) for key, wanted in self.spec.when.items()):
                made.append(combination)
        return made

    def _items(self, combination: Mapping[str, Scalar]) -> list[Item] | list[None]:
        """Return the items of `foreach`; a single None where there is none."""
        if not self.spec.foreach:
            return [None]
        names = self._scope(combination, None)
        items: dict[str, Item] = {}
        for number, template in enumerate(self.spec.foreach):
            at = self._at("foreach", number) if len(self.spec.foreach) > 1 else self._at("foreach")
            none: list[Item] = []
            for item in self._part(partial(self._items_in, template, names, at), none):
                items.setdefault(item.path, item)
        return list(items.values())

    def _items_in(self, template: str, names: Mapping[str, str], at: KeyPath) -> list[Item]:
        text = self._expand(template, names, at)
        owner, selector, stage = self.artifacts.find(self.unit, text, at)
        paths = sorted(self._listing(owner, selector, at))
        return [Item(f"{stage}/{path}", evolve(selector, pattern=path)) for path in paths]

    def _listing(self, owner: Unit, selector: Selector, at: KeyPath) -> list[str]:
        """Return the paths in an artifact that a `foreach` runs over."""
        group = self.artifacts.group(owner, selector.artifact)
        if isinstance(group, SourceFiles):
            paths = list(matching(group.files, selector.pattern or "**"))
            unknown = group.missing
        else:
            outputs = [path for recipe in group for path in recipe.outputs]
            test = matcher(selector.pattern or "**")
            paths = [path for path in outputs if test(path)]
            unknown = not group
        if not paths and not unknown:
            raise SpecFaultError(at, f"{str(selector)!r} matches nothing")
        return paths

    def _recipe(
        self,
        combination: Mapping[str, Scalar],
        item: Item | None,
        resources: Resources,
        tools: Tools,
    ) -> Recipe:
        spec, names = self.spec, self._scope(combination, item)
        toolchains, env = tools
        selections, needs = self._inputs(names, item)
        if spec.script is not None:
            script = self._part(partial(self._expand, spec.script, names, self._at("script")), "")
            command: tuple[str, ...] = (SHELL, "-eu", "-c", script)
        else:
            command = self._expand_all(spec.run or (), names, "run")
        for key, text in spec.env.items():
            value = self._part(partial(self._expand, text, names, self._at("env", key)), "")
            env = {**env, key: value}
        outputs = self._outputs(names)
        materials = self.artifacts.materials
        definition: dict[str, object] = {
            "command": list(command),
            "depfile": spec.depfile,
            "env": env,
            "isolation": materials.isolation,
            "outputs": list(outputs),
            "platform": materials.platform,
            "toolchains": list(toolchains),
        }
        return Recipe(
            label=self._label(combination, item),
            artifact=f"{self.unit.prefix}{self.name}",
            command=command,
            env=env,
            outputs=outputs,
            depfile=spec.depfile,
            toolchains=toolchains,
            selections=selections,
            needs=needs,
            platform=materials.platform,
            isolation=materials.isolation,
            digest=recipe_digest(definition, selections, needs, self.artifacts.recipes),
            test=spec.kind == "test",
            resources=resources,
            unit=self.unit,
            path=self._at(),
        )

    def _inputs(
        self, names: Mapping[str, str], item: Item | None
    ) -> tuple[tuple[Selection, ...], tuple[Need, ...]]:
        selections: dict[Digest, Selection] = {}
        needs: dict[Need, None] = {}
        for number, template in enumerate(self.spec.inputs):
            one = partial(self._input, template, names, item, self._at("inputs", number))
            nothing: list[Selection | Need] = []
            for taken in self._part(one, nothing):
                if isinstance(taken, Selection):
                    selections[taken.digest] = taken
                else:
                    needs[taken] = None
        return tuple(selections.values()), tuple(needs)

    def _input(
        self, template: str, names: Mapping[str, str], item: Item | None, at: KeyPath
    ) -> list[Selection | Need]:
        """Return what one element of `inputs` takes."""
        if item is not None and template == "{item}":
            owner, _, stage = self.artifacts.find(self.unit, str(item.selector), at)
            selector = item.selector
        else:
            text = self._expand(template, names, at)
            owner, selector, stage = self.artifacts.find(self.unit, text, at)
        selection = self.artifacts.select(owner, selector, stage, at)
        return [selection] if selection else list(self._needs(owner, selector, stage, at))

    def _needs(self, owner: Unit, selector: Selector, stage: str, at: KeyPath) -> Iterator[Need]:
        group = self.artifacts.group(owner, selector.artifact)
        assert isinstance(group, tuple)
        pattern = selector.pattern
        found = False
        for recipe in group:
            if pattern is None or any(_may_match(pattern, path) for path in recipe.outputs):
                found = True
                yield Need(recipe.label, stage, pattern)
        if group and not found:
            outputs = sorted(path for recipe in group for path in recipe.outputs)
            hint = f"its outputs: {', '.join(outputs[:5])}{', …' if len(outputs) > 5 else ''}"
            raise SpecFaultError(at, f"{str(selector)!r} matches nothing", hint)

    def _outputs(self, names: Mapping[str, str]) -> tuple[str, ...]:
        outputs = self._expand_all(self.spec.outputs, names, "outputs")
        for number, path in enumerate(outputs):
            self._part(partial(_check_output, path, self._at("outputs", number)), None)
        return tuple(sorted(outputs))

    def _claim(self, recipe: Recipe, writers: dict[str, str]) -> None:
        """Check that no two outputs of this artifact are the same or lie in each other; `writers`
        holds outputs and, with a slash, the directories above them."""
        for path in recipe.outputs:
            *above, _ = steps = list(itertools.accumulate(path.split("/"), lambda a, b: f"{a}/{b}"))
            for taken in (*steps, f"{path}/"):
                if taken in writers:
                    hint = "use {item.stem}, {item.dir} or {matrix.NAME} to tell the outputs apart"
                    how = "duplicate" if taken == path else "overlapping"
                    message = f"{how} output {path!r}, by {writers[taken]} and {recipe.label}"
                    raise SpecFaultError(self._at("outputs"), message, hint)
            writers[path] = recipe.label
            writers.update((f"{directory}/", recipe.label) for directory in above)

    def _scope(self, combination: Mapping[str, Scalar], item: Item | None) -> dict[str, str]:
        axes = {f"matrix.{axis}": _text(value) for axis, value in combination.items()}
        return {**self.names, **axes, **(item.names() if item else {})}

    def _label(self, combination: Mapping[str, Scalar], item: Item | None) -> str:
        parts = [f"{axis}={_text(value)}" for axis, value in combination.items()]
        if item is not None:
            parts.insert(0, item.path)
        chosen = f"[{','.join(parts)}]" if parts else ""
        return f"{self.unit.prefix}{self.name}{chosen}"

    def _expand_all(
        self, texts: tuple[str, ...], names: Mapping[str, str], key: str
    ) -> tuple[str, ...]:
        parts = enumerate(texts)
        return tuple(
            self._part(partial(self._expand, text, names, self._at(key, n)), "?")
            for n, text in parts
        )

    def _expand(self, text: str, names: Mapping[str, str], at: KeyPath) -> str:
        try:
            return expand(text, names)
        except UnknownNameError as error:
            hint = nearest(error.name, names, "names")
            hint = f"{hint}; write {{{{{error.name}}}}} for the text {{{error.name}}}"
            raise SpecFaultError(at, f"unknown name in template {{{error.name}}}", hint) from None


def _check_output(path: str, at: KeyPath) -> None:
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise SpecFaultError(at, f"bad output path {path!r}", "a path below $out, as bin/app")


def _may_match(pattern: str, output: str) -> bool:
    """Say whether `pattern` matches the declared output or may match something below it."""
    return (
        matcher(pattern)(output)
        or output.startswith(f"{pattern.rstrip('/')}/")
        or (may_match_below(pattern, output))
    )


def _allows(value: Scalar, wanted: Scalar | tuple[Scalar, ...]) -> bool:
    """Say whether `value` is `wanted` or one of it; `true` is not 1."""
    choices = wanted if isinstance(wanted, tuple) else (wanted,)
    return any(type(value) is type(one) and value == one for one in choices)


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
