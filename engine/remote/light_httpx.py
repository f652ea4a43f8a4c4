"""httpx without its command line, which takes longer to load than all the rest of it.

httpx does without where that cannot be imported; so it is told, while it loads, that it cannot.
"""

from __future__ import annotations

import sys
from typing import Any, Final, cast

_COMMAND_LINE: Final = "httpx._main"

_modules = cast(dict[str, Any], sys.modules)
_is_new = "httpx" not in _modules
if _is_new:
    _modules[_COMMAND_LINE] = None
try:
    import httpx as httpx
finally:
    if _is_new:
        del _modules[_COMMAND_LINE]
