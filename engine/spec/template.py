"""Templates: `{name}` in the strings of a spec.

Only `{name}` and `{name.part}` are templates; `${name}`, `{}` and `{print $1}` are left as they
are, so that shell and awk can be written plainly. `{{name}}` stands for the text `{name}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_PATTERN: Final = re.compile(rf"\{{\{{({_NAME})\}}\}}|(?<!\$)\{{({_NAME})\}}")


class UnknownNameError(Exception):
    """A template names something that does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def expand(text: str, names: Mapping[str, str]) -> str:
    """Return `text` with every template replaced. Raises UnknownNameError."""

    def replace(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if literal is not None:
            return f"{{{literal}}}"
        try:
            return names[name]
        except KeyError:
            raise UnknownNameError(name) from None

    return _PATTERN.sub(replace, text) if "{" in text else text
