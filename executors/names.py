"""What every sandbox is called, and what it has of its own."""

from __future__ import annotations

UID = 1000
"""User and group in the sandbox."""

HOST_NAME = "bn"

NAMESPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-net",
    "--unshare-cgroup-try",
)
"""The options of bubblewrap for namespaces of its own."""
