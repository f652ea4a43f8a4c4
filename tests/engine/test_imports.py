"""Imports from one file: what comes from there is what is imported in the ordinary way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
import sys
place, file, names = sys.argv[1], sys.argv[2], sys.argv[3].split()
sys.path.insert(0, {root!r})
import engine.cli.imports as imports
sys.path[0] = place
imports.WORTH = 1
imports.FRESH_NS = -(10**15)  # files of a test are young
found = imports.Imports(file)
sys.meta_path.insert(0, found)
for name in names:
    module = __import__(name, fromlist=["x"])
    given = type(module.__spec__.loader).__name__ == "_Loader"
    spec = module.__spec__
    print(name, given, module.VALUE, module.__file__, module.__cached__, spec.parent,
          spec.submodule_search_locations)
imports.renew()
"""


def imported(place: Path, *names: str, flags: tuple[str, ...] = ()) -> list[list[str]]:
    """Import modules in a process of its own; return of each whether the one file gave it, its
    value, and what it says of itself."""
    code = CODE.format(root=str(ROOT))
    command = [sys.executable, "-I", *flags, "-c", code, str(place), str(place / "all")]
    done = subprocess.run([*command, " ".join(names)], check=True, capture_output=True, text=True)
    return [line.split(" ", 3)[1:] for line in done.stdout.splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with two modules and a package, imported once."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("VALUE = 1\n")
    (tmp_path / "pack" / "one.py").write_text("VALUE = 11\n")
    (tmp_path / "two.py").write_text("VALUE = 2\n")
    first = imported(tmp_path, "pack", "pack.one", "two")
    assert [row[:2] for row in first] == [["False", "1"], ["False", "11"], ["False", "2"]]
    return tmp_path


def settle(place: Path) -> None:
    """Have the file made with the directory as it is with that file in it."""
    imported(place, "pack", "pack.one", "two")
    imported(place, "pack", "pack.one", "two")


def test_modules_come_from_the_file_and_say_the_same_of_themselves(place: Path) -> None:
    ordinary = imported(place, "pack.one")
    (place / "all").unlink()
    assert [row[2] for row in imported(place, "pack.one", flags=("-B",))] == [ordinary[0][2]]
    imported(place, "pack", "pack.one")
    assert imported(place, "pack.one")[0][0] == "True"


def test_a_source_that_changed_is_read(place: Path) -> None:
    settle(place)
    assert imported(place, "pack.one")[0][:2] == ["True", "11"]
    with (place / "pack" / "one.py").open("r+") as file:  # the same length, the same directory
        file.write("VALUE = 12\n")
    os.utime(place / "pack" / "one.py", (1, 1))
    assert imported(place, "pack.one")[0][:2] == ["False", "12"]
    assert imported(place, "pack.one")[0][:2] == ["True", "12"], "the file was made anew"


def test_what_is_new_in_a_directory_comes_first(place: Path) -> None:
    settle(place)
    (place / "pack" / "one").mkdir()
    (place / "pack" / "one" / "__init__.py").write_text("VALUE = 13\n")
    (place / "two").mkdir()
    (place / "two" / "__init__.py").write_text("VALUE = 3\n")
    assert [row[1] for row in imported(place, "pack.one", "two")] == ["13", "3"]


def test_a_source_that_is_gone_is_not_imported(place: Path) -> None:
    settle(place)
    (place / "pack" / "one.py").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        imported(place, "pack.one")


@pytest.mark.parametrize("damage", ["empty", "short", "zeros", "table", "code"])
def test_a_damaged_file_is_left_alone(place: Path, damage: str) -> None:
    settle(place)
    file = place / "all"
    data = file.read_bytes()
    whole = {
        "empty": b"",
        "short": data[:-1],
        "zeros": bytes(len(data)),
        "table": data[:30] + bytes(40) + data[70:],
        "code": data[:-200] + bytes(200),
    }
    file.write_bytes(whole[damage])
    values = [row[1] for row in imported(place, "pack", "pack.one", "two", flags=("-B",))]
    assert values == ["1", "11", "2"]


TEXTS = """
import builtins, sys
sys.path.insert(0, {root!r})
import engine.cli.imports as imports
imports.WORTH = 1
imports.FRESH_NS = -(10**15)
found = imports.Imports(sys.argv[1])
sys.meta_path.insert(0, found)
import attrs
@attrs.frozen
class Two:
    a: int
assert hash(Two(1)) == hash(Two(1)) != hash(Two(2))
@attrs.frozen(unsafe_hash=False)
class One:
    a: int
    b: "str" = attrs.field(default="x", eq=False)
one, two = One(1), One(1, b="y")
assert one == two and repr(two) == "One(a=1, b='y')"
assert One.__init__.__annotations__ == {{"a": int, "b": "str", "return": None}}
try:
    one.a = 2
except attrs.exceptions.FrozenInstanceError:
    print("none" if found._compiled is None else len(found._compiled.fresh), len(found._texts))
imports.renew()
"""


def test_what_attrs_writes_is_compiled_once(tmp_path: Path) -> None:
    def defined(*flags: str) -> list[str]:
        code = TEXTS.format(root=str(ROOT))
        command = [sys.executable, "-I", *flags, "-c", code, str(tmp_path / "all")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.split()

    assert defined() == ["none", "0"], "attrs itself was not in the file"
    fresh, kept = map(int, defined())
    assert fresh > 0
    assert kept == 0
    assert defined() == ["0", str(fresh)]
    file = tmp_path / "all"
    data = file.read_bytes()
    file.write_bytes(data[:-400] + bytes(400))  # the last text
    assert defined("-B") == ["1", str(fresh)]


def test_nothing_is_written_where_bytecode_is_not(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("VALUE = 2\n")
    assert imported(tmp_path, "two", flags=("-B",))[0][1] == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.py"]


def test_pathlib_without_urllib_is_pathlib() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from engine.cli.light_pathlib import load\n"
        "load()\n"
        "import pathlib\n"
        "assert 'urllib.parse' not in sys.modules\n"
        "print(pathlib.Path('/a b').as_uri())\n"
        "import urllib.parse\n"
        "print(urllib.parse.quote('a b'), urllib.parse.urlsplit('x://y').netloc)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "file:///a%20b\na%20b y\n"
