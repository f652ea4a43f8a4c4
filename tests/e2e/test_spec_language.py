"""The spec language: each of its words does what the documents say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

ACTION_FAILED = 1
INPUT = 3


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as specs write it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# parameters and profiles

PARAMS = """
    [params]
    text = "plain"
    number = 1
    flag = false
    [profiles.loud]
    params = { text = "LOUD", flag = true }
    [actions.say]
    tools = ["sh"]
    script = 'echo "{text} {number} {flag} {package.name}" > $out/said'
    outputs = ["said"]
    """


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "plain 1 false test"),
        (["--set", "text=a b=c", "--set", "number=-3"], "a b=c -3 false test"),
        (["--set", "flag=true"], "plain 1 true test"),
        (["--set", "text="], " 1 false test"),
        (["--profile", "loud"], "LOUD 1 true test"),
        (["--profile", "loud", "--set", "text=louder"], "louder 1 true test"),
    ],
)
def test_parameters_come_from_defaults_profiles_and_the_command_line(
    bn: Bn, arguments: list[str], said: str
) -> None:
    bn.spec(PARAMS)
    bn("build", *arguments)
    assert bn.result("said") == f"{said}\n"


def test_parameters_that_an_action_does_not_use_do_not_rerun_it(bn: Bn) -> None:
    bn.spec('[params]\nunused = 1\n[actions.a]\ntools = ["sh"]\nscript = "echo a"\n')
    assert bn.ran() == {"a"}
    assert bn.ran("--set", "unused=2") == set()


def test_templates_leave_shell_and_awk_alone(bn: Bn) -> None:
    bn.spec(
        """
        [params]
        word = "param"
        [actions.a]
        tools = ["sh"]
        env = { word = "variable", both = "{word}-{{word}}" }
        script = 'echo "{word} ${word} {{word}} {} $both { word }" > {out}/said'
        outputs = ["said"]
        """
    )
    bn("build")
    assert bn.result("said") == "param variable {word} {} param-{word} { word }\n"


# imports


def test_imports_take_parameters_and_give_artifacts(bn: Bn) -> None:
    bn.put("library/src/data", "from the library\n")
    bn.spec(
        """
        [params]
        kind = "static"
        [sources.src]
        path = "src"
        [actions.lib]
        tools = ["sh"]
        inputs = ["src"]
        script = "cp src/data $out/data; echo {kind} > $out/kind"
        outputs = ["data", "kind"]
        """,
        path="library/spec.toml",
    )
    bn.spec(
        """
        [imports]
        one = { spec = "library/spec.toml" }
        two = { spec = "library/spec.toml", set = { kind = "shared" } }
        [actions.all]
        tools = ["sh"]
        inputs = ["one:lib", "two:lib:kind", "two:src:data"]
        script = "cat one/lib/data one/lib/kind two/lib/kind two/src/data > $out/all; ls two/lib"
        outputs = ["all"]
        """
    )
    assert bn.ran() == {"one:lib", "two:lib", "all"}
    assert bn.result("all") == "from the library\nstatic\nshared\nfrom the library\n"
    assert bn("log", "all").stdout == "kind\n"
    bn("build", "two:lib")
    assert bn.result("kind") == "shared\n"
    assert "up to date" in bn("build", "library").stderr, "the same recipe under another name"


def test_import_cycles_are_an_error(bn: Bn) -> None:
    bn.spec('[imports]\nb = { spec = "b.toml" }\n', path="a.toml")
    bn.spec('[imports]\na = { spec = "a.toml" }\n', path="b.toml")
    assert "a cycle: a.toml → b.toml → a.toml" in bn("build", "a.toml", code=INPUT).stderr


def test_import_with_unknown_parameters_is_an_error(bn: Bn) -> None:
    bn.spec("[params]\nshared = true\n", path="b.toml")
    bn.spec('[imports]\nb = { spec = "b.toml", set = { sharde = true } }\n')
    assert "did you mean 'shared'?" in bn("build", code=INPUT).stderr
    bn.spec('[imports]\nb = { spec = "b.toml", set = { shared = "yes" } }\n')
    assert "'shared': expected true or false" in bn("build", code=INPUT).stderr


# matrix, when, foreach


def test_matrix_makes_one_action_of_each_combination_and_when_chooses(bn: Bn) -> None:
    bn.spec(
        """
        [params]
        extra = false
        [actions.m]
        tools = ["sh"]
        matrix = { target = ["x86", "arm", "mips"], bits = [32, 64] }
        when = { target = ["x86", "arm"], bits = 64 }
        script = "echo {matrix.target} {matrix.bits} > $out/{matrix.target}"
        outputs = ["{matrix.target}"]
        [actions.only-with-extra]
        tools = ["sh"]
        when = { extra = true }
        script = "echo extra"
        """
    )
    assert bn.ran() == {"m[target=x86,bits=64]", "m[target=arm,bits=64]"}
    assert (bn.result("x86"), bn.result("arm")) == ("x86 64\n", "arm 64\n")
    assert bn.ran("--set", "extra=true") == {"only-with-extra"}


def test_foreach_names_each_file_of_a_source(bn: Bn) -> None:
    for name in ("a.txt", "deep/er/b.tar.txt", "deep/c.md", ".hidden.txt"):
        bn.put(f"src/{name}", name)
    bn.spec(
        """
        [sources.src]
        path = "src"
        [actions.each]
        foreach = "src:**/*.txt"
        tools = ["sh"]
        inputs = ["{item}"]
        script = '''
        mkdir -p $out/{item.dir}
        echo {item} {item.name} {item.stem} {item.dir} > $out/{item.dir}/{item.stem}
        ls -R
        '''
        outputs = ["{item.dir}/{item.stem}"]
        """
    )
    assert bn.ran() == {"each[src/a.txt]", "each[src/deep/er/b.tar.txt]"}
    assert bn.result("src/a") == "src/a.txt a.txt a src\n"
    expected = "src/deep/er/b.tar.txt b.tar.txt b.tar src/deep/er\n"
    assert bn.result("src/deep/er/b.tar") == expected
    bn.put("src/new.txt", "")
    assert bn.ran() == {"each[src/new.txt]"}


def test_foreach_runs_over_the_outputs_of_another(bn: Bn) -> None:
    bn.put("src/a.in", "a")
    bn.put("src/b.in", "b")
    bn.spec(
        """
        [sources.src]
        path = "src"
        [actions.generate]
        foreach = "src:*.in"
        tools = ["sh"]
        inputs = ["{item}"]
        script = "cp {item} $out/{item.stem}.gen; echo junk > $out/{item.stem}.junk"
        outputs = ["{item.stem}.gen", "{item.stem}.junk"]
        [actions.use]
        foreach = "generate:*.gen"
        tools = ["sh"]
        inputs = ["{item}"]
        script = "ls generate; cat {item} {item} > $out/{item.stem}"
        outputs = ["{item.stem}"]
        [actions.all]
        tools = ["sh"]
        inputs = ["use"]
        script = "cat use/* > $out/all"
        outputs = ["all"]
        """,
        default="all",
    )
    bn("build")
    assert bn.result("all") == "aabb"
    assert bn("log", "use[generate/a.gen]").stdout == "a.gen\n"
    bn.put("src/b.in", "c")
    assert bn.ran() == {"generate[src/b.in]", "use[generate/b.gen]", "all"}


def test_what_is_not_named_is_not_there(bn: Bn) -> None:
    bn.put("src/seen", "")
    bn.put("src/unseen", "")
    bn.spec(
        """
        [sources.src]
        path = "src"
        [actions.two]
        tools = ["sh"]
        script = "touch $out/x $out/y"
        outputs = ["x", "y"]
        [actions.look]
        tools = ["sh"]
        inputs = ["src:seen", "two:x"]
        script = "ls src two; env | sort"
        """
    )
    bn("build", env={"CFLAGS": "-secret", "SECRET": "secret"})
    said = bn("log", "look").stdout
    assert said.startswith("src:\nseen\n\ntwo:\nx\n")
    assert "secret" not in said
    assert str(bn.directory) not in said


# run, script, env, outputs


def test_run_takes_arguments_as_they_are_and_script_goes_through_a_shell(bn: Bn) -> None:
    bn.spec(
        """
        [actions.run]
        tools = ["sh"]
        run = ["echo", "$HOME", "a  b", "*", "{{x}}"]
        [actions.script]
        tools = ["sh"]
        script = 'echo a  b; false; echo never'
        """
    )
    bn("build", "run")
    assert bn("log", "run").stdout == "$HOME a  b * {x}\n"
    bn("build", "script", code=ACTION_FAILED)
    assert bn("log", "script").stdout == "a b\n"


def test_program_that_is_not_in_the_tools_is_named(bn: Bn) -> None:
    bn.spec('[actions.a]\ntools = ["sh"]\nrun = ["no-such-program"]\n')
    said = bn("build", code=ACTION_FAILED).stderr
    assert "no-such-program" in said
    bn.spec('[actions.a]\nrun = ["true"]\n')
    assert "true" in bn("build", code=ACTION_FAILED).stderr


def test_environment_is_what_the_action_says(bn: Bn) -> None:
    bn.spec(
        """
        [params]
        level = 3
        [actions.a]
        tools = ["sh"]
        env = { LEVEL = "level {level}", PATH = "/usr/bin:/mine" }
        script = 'echo "$LEVEL"; echo "$PATH"; echo "$HOME $TZ $SOURCE_DATE_EPOCH"'
        """
    )
    bn("build")
    lines = bn("log", "a").stdout.splitlines()
    assert lines[:2] == ["level 3", "/usr/bin:/mine"]
    assert bn.ran("--set", "level=4") == {"a"}


@pytest.mark.parametrize(
    ("script", "outputs", "said"),
    [
        ("true", '["a"]', "declared output 'a' is missing"),
        ("touch $out/a $out/b", '["a"]', "output 'b' was not declared"),
        ("ln -s /etc/passwd $out/a", '["a"]', "a"),
        ("mkfifo $out/a", '["a"]', "a"),
    ],
)
def test_outputs_are_those_declared_and_no_others(
    bn: Bn, script: str, outputs: str, said: str
) -> None:
    bn.spec(f'[actions.a]\ntools = ["sh"]\nscript = "{script}"\noutputs = {outputs}\n')
    step = bn.json("build", code=ACTION_FAILED)["steps"]["a"]
    assert said in step["reason"]


def test_directory_can_be_an_output(bn: Bn) -> None:
    bn.spec(
        """
        [actions.a]
        tools = ["sh"]
        script = "mkdir -p $out/d/deep; echo 1 > $out/d/deep/f; ln -s deep/f $out/d/link"
        outputs = ["d"]
        [actions.b]
        tools = ["sh"]
        inputs = ["a:d/**"]
        script = "cat a/d/link a/d/deep/f > $out/b"
        outputs = ["b"]
        """
    )
    bn("build")
    assert bn.result("d/link") == "1\n"
    assert bn.result("b") == "1\n1\n"


# depfile


def test_depfile_narrows_what_reruns_an_action(bn: Bn) -> None:
    bn.put("src/read", "1")
    bn.put("src/unread", "1")
    bn.spec(
        """
        [sources.src]
        path = "src"
        [actions.a]
        tools = ["sh"]
        inputs = ["src"]
        script = "cp src/read $out/a; echo a: src/read > {depfile}"
        outputs = ["a"]
        depfile = true
        """
    )
    assert bn.ran() == {"a"}
    bn.put("src/unread", "2")
    assert bn.ran() == set()
    bn.put("src/read", "2")
    assert bn.ran() == {"a"}
    assert bn.result("a") == "2"


def test_action_without_its_depfile_fails(bn: Bn) -> None:
    bn.spec('[actions.a]\ntools = ["sh"]\nscript = "true"\ndepfile = true\n')
    assert "depfile" in bn("build", code=ACTION_FAILED).stderr


# resources


def test_limits_on_memory_and_time_are_enforced(bn: Bn) -> None:
    bn.spec(
        """
        [actions.greedy]
        tools = ["sh"]
        script = "tail /dev/zero"
        resources = { memory = "64MB" }
        [actions.slow]
        tools = ["sh"]
        script = "sleep 100 & sleep 100"
        resources = { timeout = "500ms", cpus = 2 }
        [actions.modest]
        tools = ["sh"]
        script = "echo modest"
        resources = { memory = "64MB", timeout = "1m" }
        """
    )
    steps = bn.json("build", "--keep-going", code=ACTION_FAILED)["steps"]
    assert "more than its 64 MB of memory" in steps["greedy"]["reason"]
    assert "longer than its 0.5 s" in steps["slow"]["reason"]
    assert steps["modest"]["status"] == "built"


def test_resources_change_no_digest(bn: Bn) -> None:
    spec = '[actions.a]\ntools = ["sh"]\nscript = "echo b"\n'
    bn.spec(spec)
    assert bn.ran() == {"a"}
    bn.spec(f'{spec}resources = {{ memory = "1GiB", timeout = "9m", cpus = 2 }}\n')
    assert bn.ran() == set()
