"""Golden digests: a change here silently empties every cache in the world, so it must be seen."""

from __future__ import annotations

import json
from pathlib import Path

from engine.graph import make_selection, recipe_digest
from executors.base import BASE_ENV, HERMETIC
from store.action_cache import observed_base, observed_key
from store.digest import digest_bytes
from store.encoding import encode
from store.objects import Action, ActionResult, Directory, Entry, File, Link, Realisation, Tree

GOLDEN = Path(__file__).with_name("digests.json")


def digests() -> dict[str, str]:
    """Return the digests of one sample of every object that is stored or looked up."""
    blob = digest_bytes(b"int main(void) { return 0; }\n")
    file = File(blob, 29)
    tree = Tree({"main.c": file, "run": File(blob, 29, True), "é": Link("main.c")})
    root = Tree({"src": Directory(tree.digest())})
    action = Action(
        command=("gcc", "-c", "src/main.c", "-o", "/bn/out/main.o"),
        env={"CFLAGS": "-O2"},
        input_root=root.digest(),
        toolchains=(tree.digest(),),
        outputs=("main.o",),
        depfile=True,
        platform="x86_64-linux",
    )
    result = ActionResult(
        action=action.digest(), outputs=tree.digest(), log=blob, observed=("src/main.c",)
    )
    inputs: dict[str, Entry] = {"src/main.c": file, "src/é": Link("main.c")}
    base = observed_base(action, inputs)
    selection = make_selection("src", inputs, None)
    recipe = recipe_digest({"command": ["true"]}, (selection,), (), {})
    realisation = Realisation(recipe=recipe, action=action.digest(), outputs=tree.digest())
    return {
        "blob": blob,
        "empty tree": Tree().digest(),
        "tree": tree.digest(),
        "action": action.digest(),
        "result": digest_bytes(result.encode()),
        "observed base": base,
        "observed key": observed_key(base, inputs, ["src/main.c"]) or "",
        "selection": selection.digest,
        "recipe": recipe,
        "realisation": digest_bytes(realisation.encode()),
        f"environment of {HERMETIC}": digest_bytes(encode({"_": "env", **BASE_ENV})),
    }


def test_digests_are_what_they_were() -> None:
    """Where this fails on purpose, raise the version in the object's type and renew the file."""
    assert digests() == json.loads(GOLDEN.read_text())
