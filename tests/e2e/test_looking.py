"""The commands that look: graph, show, log, why, shell."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

ACTION_FAILED = 1
INPUT = 3


# graph


def test_graph_in_each_format_names_steps_and_what_they_need(small: Bn) -> None:
    assert small("graph").stdout.splitlines() == [
        "first ← src → first",
        "second ← first → second",
        "check ← second → a test",
    ]
    assert "check" not in small("graph", "second").stdout
    dot = small("graph", "--format", "dot").stdout
    assert dot.startswith("digraph")
    assert '"first" -> "second";' in dot
    mermaid = small("graph", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart LR\n")
    ids = dict(re.findall(r'(n\d+)\["(\w+)"\]', mermaid))
    edges = re.findall(r"(n\d+)\S* --> (n\d+)", mermaid)
    assert ("first", "second") in [(ids[start], ids[end]) for start, end in edges]
    document = small.json("graph")
    assert document["default"] == ["second"]
    assert document["steps"]["second"]["needs"] == ["first"]
    assert document["steps"]["first"]["sources"] == ["src"]
    assert document["steps"]["check"]["test"] is True
    assert json.loads(small("graph", "--format", "json").stdout) == document


# show


def test_show_prints_trees_actions_and_blobs(small: Bn) -> None:
    report = small.json("build")
    tree = small("show", report["result"]).stdout
    kind, digest, size, name = tree.split()
    assert (kind, size, name) == ("file", "5", "second")
    assert small("show", digest).stdout == "text\n"
    assert small("show", digest[:12]).stdout == "text\n"
    action = small("show", report["steps"]["first"]["action"]).stdout
    assert "echo hello; cat src/file" in action
    document = small.json("show", report["steps"]["first"]["action"])
    assert document["kind"] == "action"
    assert document["object"]["command"][0] == "/bin/sh"
    assert small.json("show", digest) == {"kind": "blob", "digest": digest, "size": 5}


def test_show_of_what_is_not_there_says_so(small: Bn) -> None:
    small("build")
    assert "nothing in the store" in small("show", "0" * 64, code=INPUT).stderr
    assert "is not a digest" in small("show", "xyz", code=INPUT).stderr
    assert "is not a digest" in small("show", "../../etc/passwd", code=INPUT).stderr


# log, why


def test_log_is_what_the_action_printed(small: Bn) -> None:
    small("build")
    small("build")
    assert small("log", "first").stdout == "hello\n"
    assert small("log", "spec.toml", "first").stdout == "hello\n"
    (row,) = small.json("log", "first")
    assert (row["label"], row["failed"], row["log"]) == ("first", False, "hello\n")


def test_log_of_every_item_is_headed_by_its_name(bn: Bn) -> None:
    bn.put("src/a", "")
    bn.put("src/b", "")
    bn.spec(
        '[sources.src]\npath = "src"\n[actions.each]\nforeach = "src:*"\n'
        'tools = ["sh"]\nscript = "echo this is {item}"\n'
    )
    bn("build")
    said = bn("log", "each").stdout
    assert said == "== each[src/a]\nthis is src/a\n== each[src/b]\nthis is src/b\n"
    assert bn("log", "each[src/b]").stdout == "this is src/b\n"


def test_log_and_why_of_what_never_ran_say_so(broken: Bn) -> None:
    assert "no build of 'bad' is known" in broken("log", "bad", code=INPUT).stderr
    broken("build", code=ACTION_FAILED)
    for command in ("log", "why"):
        error = broken.json(command, "after", code=INPUT)["error"]
        assert "was never built" in error["hint"]
        assert broken.json(command, "bda", code=INPUT)["error"]["hint"] == "did you mean 'bad'?"


WHY = """
    [params]
    flag = "-a"
    [sources.src]
    path = "src"
    [actions.it]
    tools = ["sh"]
    inputs = ["src"]
    env = {{ COLOUR = "{colour}" }}
    run = ["echo", "{{flag}}", "{more}"]
    """


def test_why_names_the_file_flag_and_variable_that_changed(bn: Bn) -> None:
    bn.put("src/data.txt", "one\ntwo\n")
    bn.spec(WHY.format(colour="red", more="x"))
    bn("build")
    assert "never built before" in bn("why", "it").stdout
    bn.put("src/data.txt", "one\nthree\n")
    bn("build")
    assert "file src/data.txt changed (line 2)" in bn("why", "it").stdout
    bn.put("src/new.txt", "")
    bn("build")
    assert "src/new.txt" in bn("why", "it").stdout
    bn("build", "--set", "flag=-b")
    assert "flag -a → -b" in bn("why", "it").stdout
    bn.spec(WHY.format(colour="blue", more="x"))
    bn("build", "--set", "flag=-b")
    said = bn("why", "it").stdout
    assert "COLOUR" in said
    assert "blue" in said
    (row,) = bn.json("why", "it")
    assert row["ran"] is True
    assert len(row["changes"]) == 1
    bn("build")
    bn("build", "--set", "flag=-a")
    assert "was in the store" in bn("why", "it").stdout


def test_why_names_the_tool_that_changed(bn: Bn) -> None:
    bn.spec('[actions.it]\ntools = ["sh"]\nscript = "true"\n')
    text = (bn.directory / "spec.toml").read_text()
    toolchain = re.search(r'sh = "(.*)"', text)
    assert toolchain
    with open(toolchain[1]) as file:
        tools = file.read()
    bn.put("tools.toml", tools)
    (bn.directory / "spec.toml").write_text(text.replace(toolchain[1], "tools.toml"))
    bn("build")
    bn.put("tools.toml", tools + 'exclude = ["usr/bin/sed"]\n')
    bn("build")
    assert "usr/bin/sed" in bn("why", "it").stdout


# shell


def test_shell_has_the_inputs_and_variables_of_the_action(broken: Bn) -> None:
    done = broken("shell", "bad", "-c", "cat good/good; echo $COLOUR; pwd; exit 9", code=9)
    assert done.stdout == "fine\nred\n/build\n"
    assert broken("shell", "bad", "--run", code=ACTION_FAILED).stdout == "to be seen\n"


def test_shell_without_a_name_is_in_the_last_failure(broken: Bn) -> None:
    assert "no build of it is known to have failed" in broken("shell", code=INPUT).stderr
    broken("build", "--set", "code=5", code=ACTION_FAILED)
    assert broken("shell", "--run", code=5).stdout == "to be seen\n"


def test_shell_leaves_nothing_behind(small: Bn) -> None:
    small("shell", "second", "-c", "echo x > $out/second; echo y > mine")
    assert not any((small.store / "work").iterdir())
    assert small.ran() == {"second"}
    assert small.result("second") == "text\n"


def test_shell_of_many_actions_asks_for_one(bn: Bn) -> None:
    bn.put("src/a", "")
    bn.put("src/b", "")
    bn.spec(
        '[sources.src]\npath = "src"\n[actions.each]\nforeach = "src:*"\n'
        'tools = ["sh"]\nscript = "true"\n'
    )
    error = bn.json("shell", "each", code=INPUT)["error"]
    assert error["message"] == "'each' is 2 actions"
    assert "each[src/a]" in error["hint"]
