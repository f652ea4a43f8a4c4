"""What a zygote has in stock makes builds quicker and never others than a cold start's."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TOOLCHAINS, Bn, copied
from tests.e2e.warming import Warm, until

SPEC = """
    [params]
    word = "one"
    [profiles.loud]
    params = { word = "LOUD" }
    [sources.src]
    path = "src"
    [actions.leaf]
    foreach = "src:*.txt"
    tools = ["sh"]
    inputs = ["{item}", "src:common"]
    script = "cat src/common {item} > $out/{item.stem}.o"
    outputs = ["{item.stem}.o"]
    [actions.all]
    tools = ["sh"]
    inputs = ["leaf"]
    script = "echo {word}; cat leaf/*.o > $out/all"
    outputs = ["all"]
    """

FILES = 120
Edit = Callable[[Bn], object]


class Twins:
    """The same project twice: one is built by workers of a zygote, one by ordinary starts."""

    def __init__(self, warm: Bn, cold: Bn) -> None:
        self.warm, self.cold = warm, cold
        self.zygote = Warm(warm)

    def both(self, edit: Edit) -> None:
        """Do the same to both."""
        edit(self.warm)
        edit(self.cold)

    def agree(self, *arguments: str, ran: set[str] | None = None, code: int = 0) -> None:
        """Plan and build both, and see that nothing differs; `ran` is what has to run."""
        self.both(lambda bn: time.sleep(0.06))  # no file is so new that it is not believed
        plans, builds = [], []
        for bn, warm in ((self.cold, "0"), (self.warm, "1")):
            self.zygote.zygote()
            before = self.zygote.status()["handed"]
            plans.append(said(bn, "--dry-run", *arguments, warm=warm, code=code))
            builds.append(said(bn, *arguments, warm=warm, code=code))
            handed = self.zygote.status()["handed"] - before
            assert handed == 2 * int(warm)
        assert plans[0] == plans[1]
        assert builds[0] == builds[1]
        if ran is not None:
            steps = builds[1]["steps"]
            assert {label for label, step in steps.items() if step["status"] == "built"} == ran
        if not code:
            assert self.warm.result("all") == self.cold.result("all")

    def stocked(self) -> None:
        """Wait until something is in stock."""
        until(lambda: self.zygote.status()["stock"])


def said(bn: Bn, *arguments: str, warm: str, code: int = 0) -> Any:
    """Return what of a build says what was planned and what came of it."""
    text = bn("build", "--json", *arguments, env={"BN_WARM": warm}, code=code).stdout
    document = json.loads(text.replace(str(bn.directory), "…"))
    names = ("status", "result", "targets", "steps", "error")
    found = {name: document[name] for name in names if name in document}
    for step in found.get("steps", {}).values():
        step.pop("seconds", None)
    return found


@pytest.fixture
def twins(tmp_path: Path, sh_store: Path) -> Iterator[Twins]:
    with copied(sh_store, tmp_path / "a") as first, copied(sh_store, tmp_path / "b") as second:
        made = Twins(first, second)

        def write(bn: Bn) -> None:
            shutil.copy(TOOLCHAINS / "host-sh.toml", bn.directory / "sh.toml")
            bn.spec(SPEC, "all")
            bn.put("spec.toml", spec(bn).replace(str(TOOLCHAINS / "host-sh.toml"), "sh.toml"))
            bn.put("src/common", "common\n")
            for number in range(FILES):
                bn.put(f"src/f{number:03}.txt", f"{number}\n")

        made.both(write)
        first("watch")
        try:
            made.zygote.zygote()
            for number in range(3):  # the first ones fill the stock
                made.both(functools.partial(change, path=f"src/f00{number}.txt"))
                made.agree()
                made.stocked()
            yield made
        finally:
            first("watch", "--stop")


def spec(bn: Bn) -> str:
    return (bn.directory / "spec.toml").read_text()


def change(bn: Bn, path: str, text: str = "changed\n") -> None:
    with open(bn.directory / path, "a") as file:
        file.write(text)


def leaf(*numbers: int) -> set[str]:
    return {f"leaf[src/f{number:03}.txt]" for number in numbers}


def test_edits_of_sources(twins: Twins) -> None:
    twins.both(lambda bn: change(bn, "src/f007.txt"))
    twins.agree(ran={*leaf(7), "all"})
    twins.both(lambda bn: bn.put("src/f007.txt", "7\n"))  # as it was before
    twins.agree(ran=set())
    twins.both(lambda bn: bn.put("src/f900.txt", "new\n"))
    twins.agree(ran={*leaf(900), "all"})
    twins.both(lambda bn: (bn.directory / "src/f008.txt").unlink())
    twins.agree(ran={"all"})
    twins.both(lambda bn: os.rename(bn.directory / "src/f009.txt", bn.directory / "src/f901.txt"))
    twins.agree(ran={*leaf(901), "all"})
    twins.both(lambda bn: change(bn, "src/common"))
    twins.agree()
    twins.both(lambda bn: os.chmod(bn.directory / "src/f010.txt", 0o755))
    twins.agree()
    twins.both(lambda bn: os.utime(bn.directory / "src/f010.txt", (5, 5)))
    twins.agree(ran=set())


def test_edits_of_specs_and_parameters(twins: Twins) -> None:
    twins.both(lambda bn: change(bn, "spec.toml", "# a comment\n"))
    twins.agree(ran=set())
    twins.agree("--set", "word=two", ran={"all"})
    twins.agree("--profile", "loud", ran={"all"})
    twins.both(lambda bn: change(bn, "src/f003.txt"))
    twins.agree("--set", "word=two", ran={*leaf(3), "all"})
    twins.both(lambda bn: bn.put("spec.toml", spec(bn).replace("cat leaf/", "tac leaf/")))
    twins.agree(ran={"all"})
    twins.both(lambda bn: bn.put("spec.toml", spec(bn).replace("src:*.txt", "src:f00*.txt")))
    twins.agree(ran={"all"})
    twins.both(lambda bn: change(bn, "spec.toml", "[actions.x]\nnonsense = 1\n"))
    twins.agree(code=3)


def test_another_toolchain(twins: Twins) -> None:
    def edit(bn: Bn) -> None:
        path = bn.directory / "sh.toml"
        path.write_text(path.read_text().replace('"dash"', '"dash", "sed"'))

    twins.both(edit)
    assert '"sed"' in (twins.warm.directory / "sh.toml").read_text()
    twins.agree()


def test_what_is_lost_in_the_store(twins: Twins) -> None:
    def lose(text: str) -> Edit:
        def edit(bn: Bn) -> None:
            blobs = [p for p in (bn.store / "blobs").rglob("*") if p.is_file()]
            gone = [p for p in blobs if p.stat().st_size == len(text) and p.read_text() == text]
            assert gone
            for path in gone:
                path.unlink()

        return edit

    twins.both(lose("common\n50\n"))  # an output of a cached step
    twins.both(lambda bn: change(bn, "src/f011.txt"))
    twins.agree()
    twins.both(lose("51\n"))  # a source
    twins.both(lambda bn: change(bn, "src/f011.txt"))
    twins.agree(ran={*leaf(11), "all"})
    twins.both(lambda bn: shutil.rmtree(bn.store / "records"))
    twins.both(lambda bn: change(bn, "src/f012.txt"))
    twins.agree(ran={*leaf(12), "all"})


def test_damaged_memos(twins: Twins) -> None:
    def damage(bn: Bn) -> None:
        for path in (bn.store / "records").iterdir():
            data = path.read_bytes()
            path.write_bytes(data[:40] + bytes(byte ^ 1 for byte in data[40:]))

    twins.both(damage)
    twins.both(lambda bn: change(bn, "src/f013.txt"))
    twins.agree(ran={*leaf(13), "all"})


def test_the_collector_and_other_processes_in_between(twins: Twins) -> None:
    twins.both(lambda bn: bn("store", "gc"))
    twins.both(lambda bn: change(bn, "src/f014.txt"))
    twins.agree(ran={*leaf(14), "all"})
    twins.both(lambda bn: change(bn, "src/f015.txt"))
    twins.both(lambda bn: bn("build", env={"BN_WARM": "0"}))
    twins.both(lambda bn: change(bn, "src/f016.txt"))
    twins.agree(ran={*leaf(16), "all"})
    twins.both(lambda bn: (bn.directory / "result").unlink())
    twins.both(lambda bn: change(bn, "src/f017.txt"))
    twins.agree(ran={*leaf(17), "all"})


def test_the_stock_goes_with_its_zygote(twins: Twins) -> None:
    first = twins.zygote.zygote()
    first.kill()
    until(lambda: twins.zygote.status()["process"] not in (None, first.pid))
    assert twins.zygote.status()["stock"] == 0
    twins.both(lambda bn: change(bn, "src/f018.txt"))
    twins.agree(ran={*leaf(18), "all"})
    twins.stocked()
    assert not [name for name in os.listdir(twins.warm.store / "watch") if "left" in name]
