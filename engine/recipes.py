"""Recipes of one action: its matrix, items and templates written out, all faults noted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from engine.artifacts import Artifacts, SourceFiles, SpecFaultError, matching
from engine.graph import Recipe, Resources, common_text, list_text, quick_digest
from engine.inputs import Item, Taken, Taking
from engine.packer import Batch, Made
from engine.spec.faults import Fault, KeyPath, nearest
from engine.spec.model import ActionSpec, Scalar
from engine.spec.project import Unit
from engine.spec.selector import Selector, matcher
from engine.spec.template import UnknownNameError, expand
from engine.units import parse_duration, parse_size
from executors.base import BASE_ENV, DEPFILE, OUT, SHELL
from store.digest import Digest

Part = TypeVar("Part")
Tools = tuple[tuple[Digest, ...], Mapping[str, str]]
"""Toolchain trees, and the variables that they set."""


class ActionExpander:
    """Expands one action into its recipes."""

    def __init__(self, artifacts: Artifacts, unit: Unit, name: str) -> None:
        self.artifacts = artifacts
        self.faults: list[Fault] = []
        self.unit = unit
        self.name = name
        self.spec: ActionSpec = unit.spec.file.actions[name]
        self.names = {
            **{key: _plain(value) for key, value in unit.params.items()},
            "out": OUT,
            "package.name": unit.spec.file.package.name,
            "package.version": unit.spec.file.package.version,
            **({"depfile": DEPFILE} if self.spec.depfile else {}),
        }
        self.artifact = f"{unit.prefix}{name}"
        self._common: tuple[Mapping[str, str], tuple[str, str, str]] | None = None
        self._taking = Taking(artifacts, unit)

    def recipes(self) -> Made:
        """Return the recipes, which are part of the graph then; none where there are faults."""
        for check in (self._check_command, self._check_kind, self._check_env):
            self._part(check, None)
        resources = self._part(self._resources, Resources())
        no_tools: Tools = ((), {})
        tools = self._part(self._tools, no_tools)
        writers: dict[str, str] = {}
        clashes: list[SpecFaultError] = []
        batch = Batch(self.artifacts.packer)
        none: list[Mapping[str, Scalar]] = []
        for combination in self._part(self._combinations, none):
            for item in self._items(combination):
                recipe = self._recipe(combination, item, resources, tools)
                try:
                    self._claim(recipe, writers)
                except SpecFaultError as error:
                    clashes.append(error)
                batch.add(recipe)
        if clashes:  # one mistake, however many items there are
            first, more = clashes[0], len(clashes) - 1
            message = f"{first.message}, and {more} more" if more else first.message
            self._note(SpecFaultError(first.path, message, first.hint))
        if self.faults:
            batch = Batch(self.artifacts.packer)
        return self.artifacts.packer.take(batch)

    def _part(self, part: Callable[[], Part], otherwise: Part) -> Part:
        """Return what `part` gives, or `otherwise` with its fault noted: every part is tried, so
        that all faults are reported at once."""
        try:
            return part()
        except SpecFaultError as error:
            self._note(error)
            return otherwise

    def _note(self, error: SpecFaultError) -> None:
        message = f"action {self.name!r}: {error.message}"
        fault = self.unit.fault(error.path, message, error.hint, error.at_key)
        if fault not in self.faults:
            self.faults.append(fault)

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

    def _items(self, combination: Mapping[str, Scalar]) -> Iterable[Item | None]:
        """Return the items of `foreach`; a single None where there is none."""
        if not self.spec.foreach:
            return [None]
        names = self._scope(combination, None)
        if len(self.spec.foreach) == 1:
            nothing: Iterable[Item] = ()
            at = self._at("foreach")
            return self._part(partial(self._items_in, self.spec.foreach[0], names, at), nothing)
        items: dict[str, Item] = {}
        for number, template in enumerate(self.spec.foreach):
            at = self._at("foreach", number)
            none: Iterable[Item] = ()
            for item in self._part(partial(self._items_in, template, names, at), none):
                items.setdefault(item.staged, item)
        return list(items.values())

    def _items_in(self, template: str, names: Mapping[str, str], at: KeyPath) -> Iterable[Item]:
        text = self._expand(template, names, at)
        owner, selector, stage = self.artifacts.find(self.unit, text, at)
        paths = sorted(self._listing(owner, selector, at))
        return (Item(path, owner, selector.artifact, stage) for path in paths)

    def _listing(self, owner: Unit, selector: Selector, at: KeyPath) -> list[str]:
        """Return the paths in an artifact that a `foreach` runs over."""
        group = self.artifacts.group(owner, selector.artifact)
        if isinstance(group, SourceFiles):
            paths = matching(group, selector.pattern or "**")
            unknown = group.missing
        else:
            outputs = [path for _, paths in group.outputs() for path in paths]
            test = matcher(selector.pattern or "**")
            paths = [path for path in outputs if test(path)]
            unknown = not group.labels
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
        taken = self._inputs(names, item)
        if spec.script is not None:
            script = self._text(spec.script, names, self._at("script"), "")
            command: tuple[str, ...] = (SHELL, "-eu", "-c", script)
        else:
            command = self._texts(spec.run or (), names, "run")
        for key, text in spec.env.items():
            env = {**env, key: self._text(text, names, self._at("env", key), "")}
        outputs = self._outputs(names)
        materials = self.artifacts.materials
        isolation, platform = materials.isolation, materials.platform
        common = self._common_text(env, toolchains)
        return Recipe(
            label=self._label(combination, item),
            command=command,
            env=env,
            outputs=outputs,
            depfile=spec.depfile,
            toolchains=toolchains,
            selections=taken.selections,
            needs=taken.needs,
            platform=platform,
            isolation=isolation,
            digest=quick_digest(
                list_text(command), common, taken.needs_text, list_text(outputs), taken.selections
            ),
            test=spec.kind == "test",
            resources=resources,
        )

    def _common_text(
        self, env: Mapping[str, str], toolchains: tuple[Digest, ...]
    ) -> tuple[str, str, str]:
        """Return the canonical text of what this recipe shares with most others of the action."""
        if self._common is None or self._common[0] is not env:
            materials = self.artifacts.materials
            text = common_text(
                self.spec.depfile, env, materials.isolation, materials.platform, toolchains
            )
            self._common = (env, text)
        return self._common[1]

    def _inputs(self, names: Mapping[str, str], item: Item | None) -> Taken:
        parts: list[Taken] = []
        for number, form in enumerate(self.spec.inputs):
            try:
                if item is not None and form == "{item}":
                    parts.append(self._taking.item(item, self._at("inputs", number)))
                    continue
                text = form
                if "{" in form:
                    text = self._expand(form, names, self._at("inputs", number))
                parts.append(self._taking.text(text, self._at("inputs", number)))
            except SpecFaultError as error:
                self._note(error)
        return self._taking.together(parts)

    def _outputs(self, names: Mapping[str, str]) -> tuple[str, ...]:
        outputs = self._texts(self.spec.outputs, names, "outputs")
        for number, path in enumerate(outputs):
            if _is_bad_output(path):
                at, hint = self._at("outputs", number), "a path below $out, as bin/app"
                if path.endswith("/") and not _is_bad_output(path[:-1]):
                    hint = f"a directory is declared without the slash: {path[:-1]!r}"
                self._note(SpecFaultError(at, f"bad output path {path!r}", hint))
        return outputs if len(outputs) < 2 else tuple(sorted(outputs))

    def _claim(self, recipe: Recipe, writers: dict[str, str]) -> None:
        """Check that no two outputs of this artifact are the same or lie in each other; `writers`
        holds outputs and, with a slash, the directories above them."""
        for path in recipe.outputs:
            if "/" not in path and path not in writers and f"{path}/" not in writers:
                writers[path] = recipe.label
                continue
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
        scope = dict(self.names)
        for axis, value in combination.items():
            scope[f"matrix.{axis}"] = _plain(value)
        if item is not None:
            scope.update(item.names())
        return scope

    def _label(self, combination: Mapping[str, Scalar], item: Item | None) -> str:
        if not combination:
            return self.artifact if item is None else f"{self.artifact}[{item.staged}]"
        parts = [f"{axis}={_plain(value)}" for axis, value in combination.items()]
        if item is not None:
            parts.insert(0, item.staged)
        return f"{self.artifact}[{','.join(parts)}]"

    def _texts(self, texts: tuple[str, ...], names: Mapping[str, str], key: str) -> tuple[str, ...]:
        """Return templates expanded; one that cannot be is noted and stands as `?`."""
        return tuple(
            [
                self._text(text, names, self._at(key, number), "?") if "{" in text else text
                for number, text in enumerate(texts)
            ]
        )

    def _text(self, text: str, names: Mapping[str, str], at: KeyPath, otherwise: str) -> str:
        try:
            return self._expand(text, names, at)
        except SpecFaultError as error:
            self._note(error)
            return otherwise

    def _expand(self, text: str, names: Mapping[str, str], at: KeyPath) -> str:
        try:
            return expand(text, names)
        except UnknownNameError as error:
            hint = nearest(error.name, names, "names")
            hint = f"{hint}; write {{{{{error.name}}}}} for the text {{{error.name}}}"
            raise SpecFaultError(at, f"unknown name in template {{{error.name}}}", hint) from None


def _is_bad_output(path: str) -> bool:
    if "/" not in path and path not in ("", ".", ".."):
        return False
    return path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/"))


def _allows(value: Scalar, wanted: Scalar | tuple[Scalar, ...]) -> bool:
    """Say whether `value` is `wanted` or one of it; `true` is not 1."""
    choices = wanted if isinstance(wanted, tuple) else (wanted,)
    return any(type(value) is type(one) and value == one for one in choices)


def _plain(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
