"""Specs expanded into the graph: matrix, foreach, templates, selectors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from attrs import evolve, field, frozen

from engine.graph import (
    Graph,
    Need,
    Recipe,
    Resources,
    Selection,
    make_selection,
    recipe_digest,
)
from engine.spec.faults import Fault, KeyPath, nearest, spec_error
from engine.spec.model import ActionSpec, Scalar
from engine.spec.project import Unit
from engine.spec.selector import Selector, matcher, may_match_below, parse_selector
from engine.spec.template import UnknownNameError, expand
from engine.units import parse_duration, parse_size
from executors.base import BASE_ENV, DEPFILE, OUT, SHELL
from store.digest import Digest
from store.ingest import Snapshot
from store.objects import Directory, Entry

MAGIC = frozenset("*?[")


@frozen(eq=False)
class SourceFiles:
    """A source made real: its tree, its entries by path, and its snapshot if it is a directory."""

    tree: Digest
    files: Mapping[str, Entry] = field(repr=False)
    snapshot: Snapshot | None = None


@frozen(eq=False)
class Materials:
    """What evaluation needs from outside the specs, by the unit's prefix and the name."""

    sources: Mapping[tuple[str, str], SourceFiles]
    toolchains: Mapping[tuple[str, str], tuple[Digest, Mapping[str, str]]]
    platform: str
    isolation: str


Group: TypeAlias = "SourceFiles | tuple[Recipe, ...]"


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


class SpecFaultError(Exception):
    """A fault that ends the expansion of one action."""

    def __init__(self, path: KeyPath, message: str, hint: str = "", at_key: bool = False) -> None:
        super().__init__(message)
        self.fault = (path, message, hint, at_key)


def build_graph(project: Unit, materials: Materials) -> Graph:
    """Return the graph of all actions of `project`. Pure; raises SpecError with all faults."""
    expander = _Expander(project, materials)
    for unit in project.units():
        for name in unit.spec.file.actions:
            expander.group(unit, name)
    expander.check_defaults()
    if expander.faults:
        raise spec_error(expander.faults)
    artifacts = {
        f"{prefix}{name}": tuple(recipe.label for recipe in group)
        for (prefix, name), group in expander.groups.items()
        if isinstance(group, tuple)
    }
    return Graph(expander.recipes, artifacts, project, materials.isolation)


class _Expander:
    """Expands artifacts on demand, so that the order in which a spec names them does not matter."""

    def __init__(self, project: Unit, materials: Materials) -> None:
        self.project = project
        self.materials = materials
        self.recipes: dict[str, Recipe] = {}
        self.groups: dict[tuple[str, str], Group] = {}
        self.faults: list[Fault] = []
        self._open: list[tuple[str, str]] = []
        self._selections: dict[tuple[str, str, str, str | None], Selection] = {}

    def check_defaults(self) -> None:
        """Note a fault for every default target that does not exist."""
        file = self.project.spec.file
        for number, name in enumerate(file.package.default):
            if (self.project.prefix, name) not in self.groups or name not in file.actions:
                message = f"package: unknown default target {name!r}"
                hint = nearest(name, file.actions, "actions")
                at: KeyPath = ("package", "default", number)
                self.faults.append(self.project.fault(at, message, hint))

    def group(self, unit: Unit, name: str) -> Group:
        """Return the source or the recipes that make up an artifact of `unit`."""
        key = (unit.prefix, name)
        if key in self.groups:
            return self.groups[key]
        if name in unit.spec.file.sources:
            made: Group = self.materials.sources[key]
        else:
            if key in self._open:
                ring = [f"{p}{n}" for p, n in self._open[self._open.index(key) :]] + [
                    f"{unit.prefix}{name}"
                ]
                raise SpecFaultError(("actions", name), f"a cycle: {' → '.join(ring)}", at_key=True)
            self._open.append(key)
            made = self._action(unit, name)
            self._open.pop()
        self.groups[key] = made
        return made

    def _action(self, unit: Unit, name: str) -> tuple[Recipe, ...]:
        """Return the recipes of one action; none, with the faults noted, if it has any."""
        try:
            made = _ActionExpander(self, unit, name).recipes()
        except SpecFaultError as error:
            path, message, hint, at_key = error.fault
            fault = unit.fault(path, f"action {name!r}: {message}", hint, at_key)
            if fault not in self.faults:
                self.faults.append(fault)
            return ()
        for recipe in made:
            self.recipes[recipe.label] = recipe
        return made

    def find(self, unit: Unit, text: str, at: KeyPath) -> tuple[Unit, Selector, str]:
        """Return the owner of what `text` selects, the selector, and where it is staged."""
        try:
            selector = parse_selector(text, unit.imports.__contains__)
        except ValueError as error:
            raise SpecFaultError(at, f"{text!r}: {error}") from None
        owner = unit.imports[selector.imported] if selector.imported else unit
        file = owner.spec.file
        known = {**file.sources, **file.actions}
        if selector.artifact not in known:
            if not selector.imported:
                known = {**known, **unit.imports}
            if selector.artifact in unit.imports and not selector.pattern:
                theirs = unit.imports[selector.artifact].spec.file.actions
                hint = f"name one of its artifacts: {text}:{next(iter(theirs), 'NAME')}"
                raise SpecFaultError(at, f"{text!r} is an import", hint)
            hint = nearest(selector.artifact, known, "artifacts")
            raise SpecFaultError(at, f"unknown input {text!r}", hint)
        stage = selector.artifact
        if selector.imported:
            stage = f"{selector.imported}/{stage}"
        return owner, selector, stage

    def select(self, owner: Unit, selector: Selector, stage: str, at: KeyPath) -> Selection | None:
        """Return what `selector` takes from a source, None if it names an action."""
        group = self.group(owner, selector.artifact)
        if isinstance(group, tuple):
            return None
        key = (owner.prefix, selector.artifact, stage, selector.pattern)
        if key not in self._selections:
            if selector.pattern is None:
                entries: dict[str, Entry] = {stage: Directory(group.tree)}
            else:
                found = _matching(group.files, selector.pattern)
                entries = {f"{stage}/{path}": entry for path, entry in found.items()}
            if not entries:
                hint = f"{selector.artifact} holds: {_sample(group.files)}"
                raise SpecFaultError(at, f"{str(selector)!r} matches nothing", hint)
            self._selections[key] = make_selection(stage, entries, group.snapshot)
        return self._selections[key]


def _matching(files: Mapping[str, Entry], pattern: str) -> dict[str, Entry]:
    """Return the entries that `pattern` matches; one that names a directory takes all below it."""
    if not MAGIC & set(pattern):
        plain = pattern.rstrip("/")
        if plain in files:
            return {plain: files[plain]}
        return {path: entry for path, entry in files.items() if path.startswith(f"{plain}/")}
    test = matcher(pattern)
    return {path: entry for path, entry in files.items() if test(path)}


def _sample(files: Mapping[str, Entry]) -> str:
    names = sorted(files)
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


class _ActionExpander:
    """Expands one action into its recipes."""

    def __init__(self, graph: _Expander, unit: Unit, name: str) -> None:
        self.graph = graph
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
        """Return the recipes; raises SpecFaultError at the first fault."""
        self._check()
        resources = self._resources()
        toolchains, tool_env = self._tools()
        made: list[Recipe] = []
        writers: dict[str, str] = {}
        for combination in self._combinations():
            for item in self._items(combination) if self.spec.foreach else (None,):
                recipe = self._recipe(combination, item, resources, toolchains, tool_env)
                self._claim(recipe, writers)
                made.append(recipe)
        return tuple(made)

    def _at(self, *path: str | int) -> KeyPath:
        return ("actions", self.name, *path)

    def _check(self) -> None:
        spec = self.spec
        if (spec.run is None) == (spec.script is None):
            both = "has both" if spec.run is not None else "needs"
            raise SpecFaultError(self._at(), f"{both} 'run' or 'script': give one", at_key=True)
        if spec.run is not None and not spec.run:
            raise SpecFaultError(self._at("run"), "'run' is empty")
        if spec.script is not None and not spec.tools:
            hint = 'name a toolchain with a shell: tools = ["sh"]'
            raise SpecFaultError(self._at("script"), "a script needs a shell", hint, at_key=True)
        if spec.kind not in ("build", "test"):
            raise SpecFaultError(self._at("kind"), '\'kind\' is "build" or "test"')
        for key in spec.env:
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

    def _tools(self) -> tuple[tuple[Digest, ...], dict[str, str]]:
        trees: list[Digest] = []
        env: dict[str, str] = {}
        for number, tool in enumerate(self.spec.tools):
            if tool not in self.unit.spec.file.toolchains:
                hint = nearest(tool, self.unit.spec.file.toolchains, "toolchains")
                raise SpecFaultError(self._at("tools", number), f"unknown toolchain {tool!r}", hint)
            tree, variables = self.graph.materials.toolchains[self.unit.prefix, tool]
            trees.append(tree)
            env = {**variables, **env}
        return tuple(dict.fromkeys(trees)), env

    def _combinations(self) -> Iterator[Mapping[str, Scalar]]:
        axes = self.spec.matrix
        for axis, values in axes.items():
            if not values:
                raise SpecFaultError(self._at("matrix", axis), f"axis {axis!r} has no values")
        for key in self.spec.when:
            if key not in axes and key not in self.unit.params:
                hint = nearest(key, [*axes, *self.unit.params], "axes and parameters")
                raise SpecFaultError(
                    self._at("when", key), f"unknown name {key!r}", hint, at_key=True
                )
        for values in itertools.product(*axes.values()):
            combination = dict(zip(axes, values, strict=True))
            known = {**self.unit.params, **combination}
            if all(_allows(known[key], wanted) for key, wanted in self.spec.when.items()):
                yield combination

    def _items(self, combination: Mapping[str, Scalar]) -> list[Item]:
        names = self._scope(combination, None)
        items: dict[str, Item] = {}
        for number, template in enumerate(self.spec.foreach):
            at = self._at("foreach", number) if len(self.spec.foreach) > 1 else self._at("foreach")
            text = self._expand(template, names, at)
            owner, selector, stage = self.graph.find(self.unit, text, at)
            paths = self._listing(owner, selector, at)
            if not paths:
                raise SpecFaultError(at, f"{text!r} matches nothing")
            for path in sorted(paths):
                exact = evolve(selector, pattern=path)
                items.setdefault(f"{stage}/{path}", Item(f"{stage}/{path}", exact))
        return list(items.values())

    def _listing(self, owner: Unit, selector: Selector, at: KeyPath) -> list[str]:
        """Return the paths in an artifact that a `foreach` runs over."""
        group = self.graph.group(owner, selector.artifact)
        if isinstance(group, SourceFiles):
            return list(_matching(group.files, selector.pattern or "**"))
        outputs = [path for recipe in group for path in recipe.outputs]
        test = matcher(selector.pattern or "**")
        return [path for path in outputs if test(path)]

    def _recipe(
        self,
        combination: Mapping[str, Scalar],
        item: Item | None,
        resources: Resources,
        toolchains: tuple[Digest, ...],
        tool_env: Mapping[str, str],
    ) -> Recipe:
        names = self._scope(combination, item)
        selections, needs = self._inputs(names, item)
        spec = self.spec
        if spec.script is not None:
            script = self._expand(spec.script, names, self._at("script"))
            command: tuple[str, ...] = (SHELL, "-eu", "-c", script)
        else:
            command = self._expand_all(spec.run or (), names, "run")
        env = {
            **tool_env,
            **{k: self._expand(v, names, self._at("env", k)) for k, v in spec.env.items()},
        }
        outputs = self._outputs(names)
        materials = self.graph.materials
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
            digest=recipe_digest(definition, selections, needs, self.graph.recipes),
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
            at = self._at("inputs", number)
            if item is not None and template == "{item}":
                text = str(item.selector)
                owner, _, stage = self.graph.find(self.unit, text, at)
                selector = item.selector
            else:
                text = self._expand(template, names, at)
                owner, selector, stage = self.graph.find(self.unit, text, at)
            selection = self.graph.select(owner, selector, stage, at)
            if selection is not None:
                selections[selection.digest] = selection
                continue
            for need in self._needs(owner, selector, stage, at):
                needs[need] = None
        return tuple(selections.values()), tuple(needs)

    def _needs(self, owner: Unit, selector: Selector, stage: str, at: KeyPath) -> Iterator[Need]:
        group = self.graph.group(owner, selector.artifact)
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
            if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
                hint = "a path below $out, as bin/app"
                raise SpecFaultError(self._at("outputs", number), f"bad output path {path!r}", hint)
        return tuple(sorted(outputs))

    def _claim(self, recipe: Recipe, writers: dict[str, str]) -> None:
        """Check that no two recipes of this artifact, nor two outputs of one, share a path."""
        for path in recipe.outputs:
            parents = list(itertools.accumulate(path.split("/"), lambda a, b: f"{a}/{b}"))
            for taken in parents:
                if taken in writers:
                    hint = "use {item.stem}, {item.dir} or {matrix.NAME} to tell the outputs apart"
                    message = f"duplicate output {path!r}, by {writers[taken]} and {recipe.label}"
                    raise SpecFaultError(self._at("outputs"), message, hint)
            writers[path] = recipe.label
        # An output above one that is already taken: sorted outputs show it as a prefix.
        for path in recipe.outputs:
            below = f"{path}/"
            if len(recipe.outputs) > 1 and any(other.startswith(below) for other in recipe.outputs):
                raise SpecFaultError(self._at("outputs"), f"output {path!r} holds another output")

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
        return tuple(self._expand(text, names, self._at(key, n)) for n, text in enumerate(texts))

    def _expand(self, text: str, names: Mapping[str, str], at: KeyPath) -> str:
        try:
            return expand(text, names)
        except UnknownNameError as error:
            hint = nearest(error.name, names, "names")
            hint = f"{hint}; write {{{{{error.name}}}}} for the text {{{error.name}}}"
            raise SpecFaultError(at, f"unknown name in template {{{error.name}}}", hint) from None


def _may_match(pattern: str, output: str) -> bool:
    """Say whether `pattern` matches the declared output or may match something below it."""
    return (
        matcher(pattern)(output)
        or output.startswith(f"{pattern.rstrip('/')}/")
        or (may_match_below(pattern, output))
    )


def _allows(value: Scalar, wanted: Scalar | tuple[Scalar, ...]) -> bool:
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
