"""Site-packages, looked for late: the launcher starts Python without them (`engine.cli.start`)."""

from __future__ import annotations

import os
import sys


def find_packages() -> None:
    """Let packages of others be imported from here on, as they ordinarily can be."""
    if sys.flags.no_site and "site" not in sys.modules:
        packages = _plain_packages()
        if packages:
            sys.path.append(packages)
        else:
            import site

            site.main()


def _plain_packages() -> str:
    """Return the site-packages of the virtual environment that runs this; nothing where there is
    none, or where it shows the system's packages, too. To add them is all that is needed then."""
    home = os.path.dirname(os.path.dirname(sys.executable))
    packages = f"{home}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    try:
        with open(f"{home}/pyvenv.cfg", encoding="utf-8") as file:
            words = file.read().lower().split()
    except (OSError, ValueError):
        return ""
    sees_all = "".join(words).partition("include-system-site-packages=")[2].startswith("true")
    return packages if os.path.isdir(packages) and not sees_all else ""
