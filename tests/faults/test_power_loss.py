"""The machine goes down under servers that sync afterwards: what was synced is there, and nothing
that is there is wrong.

`BN_CUTS=50` says how often.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CUTS = int(os.environ.get("BN_CUTS", "4"))
POWER = Path(__file__).with_name("power.py")


def can_mount(place: Path) -> bool:
    """Say whether a file system in a file can be mounted here."""
    image, mount = place / "try", place / "try.mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, mount], check=True, capture_output=True)
        subprocess.run(["umount", mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def test_power_cuts_lose_nothing_that_was_synced(tmp_path: Path) -> None:
    if os.getuid() != 0 or not can_mount(tmp_path):
        pytest.skip("needs root and loop devices")
    seed = int.from_bytes(tmp_path.name.encode()[-4:])
    command = [sys.executable, str(POWER), str(tmp_path), str(CUTS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{CUTS} cuts")
