"""Templates: `{name}` in the strings of a spec.

Only `{name}` and `{name.part}` are templates; `${name}`, `{}` and `{print $1}` are left as they
are, so that shell and awk can be written plainly. `{{name}}` stands for the text `{name}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_PATTERN: Final = re.compile(rf"\{{\{{({_NAME})\}}\}}|(?<!\$)\{{({_NAME})\}}")


class UnknownNameError(Exception):
    """A template names something that does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Template:
    """A text taken apart once, to be expanded many times; `names` are those that stand in it."""

    __slots__ = ("_form", "_get", "_text", "names")

    def __init__(self, text: str) -> None:
        names: list[str] = []

        def replace(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal is not None:
                return f"{{{literal}}}"
            names.append(name)
            return "%s"

        self._text = text
        if "{" in text:
            self._form: str = _PATTERN.sub(replace, text.replace("%", "%%"))
            if names:
                self._get: Callable[[Mapping[str, str]], Any] = itemgetter(*names)
            else:
                self._text = self._form % ()
        self.names = tuple(names)

    def expand(self, names: Mapping[str, str]) -> str:
        """Return the text with every name replaced. Raises UnknownNameError."""
        if not self.names:
            return self._text
        try:
            return self._form % self._get(names)  # type: ignore[no-any-return]
        except KeyError as error:
            raise UnknownNameError(error.args[0]) from None


@lru_cache(maxsize=4096)
def template(text: str) -> Template:
    """Return the template in `text`."""
    return Template(text)


def expand(text: str, names: Mapping[str, str]) -> str:
    """Return `text` with every template replaced. Raises UnknownNameError."""
    return template(text).expand(names) if "{" in text else text
