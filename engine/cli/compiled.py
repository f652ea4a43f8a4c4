"""Code that attrs makes of texts, kept with the modules that are imported from one file.

attrs writes the methods of each class as a text and compiles that whenever the class's module is
imported. The same text gives the same code in the same Python, so it is compiled once; but for a
class with a hash, whose text has a number that is another one in each process.
"""

from __future__ import annotations

import marshal
from _blake2 import blake2b
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_BAD = (OSError, ValueError, EOFError, TypeError)


class Compiled:
    """The code of texts, by a digest of each: what `read` gives for one that is kept, and `fresh`
    for those that were compiled now."""

    def __init__(self, read: Callable[[bytes], bytes]) -> None:
        """`read` raises KeyError for a text that is not kept, OSError where it cannot be read."""
        self.fresh: dict[bytes, bytes] = {}
        self._read = read

    def serve(self, module: ModuleType) -> None:
        """Be what the name `compile` means in a module."""
        # as the built-in one takes over what its caller has from __future__
        flags = getattr(vars(module).get("annotations"), "compiler_flag", 0)

        def make(source: str, filename: str, mode: str) -> CodeType:
            made: CodeType = compile(source, filename, mode, flags, dont_inherit=True)
            return made

        def compiled(source: str, filename: str, mode: str) -> CodeType:
            if "def __hash__" in source:
                return make(source, filename, mode)
            words = repr((source, filename, mode, flags))
            key = blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            try:
                kept: object = marshal.loads(self._read(key))
                if isinstance(kept, CodeType):
                    return kept
            except (*_BAD, KeyError):
                pass
            code = make(source, filename, mode)
            self.fresh[key] = marshal.dumps(code)
            return code

        vars(module)["compile"] = compiled
