"""Site-packages, looked for late: the launcher starts Python without them (`engine.cli.start`)."""

from __future__ import annotations

import sys


def find_packages() -> None:
    """Let packages of others be imported from here on, as they ordinarily can be."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
