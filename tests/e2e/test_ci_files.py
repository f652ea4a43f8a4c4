"""The workflows in specs/ci: well-formed, and every command line in them is one that bn knows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml

from engine.cli.commands import commands
from tests.e2e.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "specs" / "ci").glob("*.yml"))


def command_lines(value: Any) -> Iterator[str]:
    """Yield the lines of all scripts in a workflow that call bn."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key in ("run", "script", "before_script", "after_script"):
                for text in [one] if isinstance(one, str) else one:
                    yield from re.findall(r"(?:^|[;&] |then )bn ([^;|&\n]+)", text, re.MULTILINE)
            else:
                yield from command_lines(one)
    elif isinstance(value, list):
        for one in value:
            yield from command_lines(one)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_command_is_one_of_bn(path: Any) -> None:
    lines = list(command_lines(yaml.safe_load(path.read_text())))
    assert {line.split()[0] for line in lines} >= {"build", "test", "replay", "bundle", "cache"}
    for line in lines:
        group: click.Command = commands
        words = shlex.split(line)
        while isinstance(group, click.Group):
            found = group.get_command(click.Context(group), words[0])
            assert found is not None, line
            group, words = found, words[1:]
        group.make_context("bn", words)


def test_there_is_one_for_each_service() -> None:
    assert [path.name for path in FILES] == ["github-actions.yml", "gitlab-ci.yml"]
