"""Processes that are killed at random points: nothing is wrong afterwards, nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

KILLS = 200
KILLING = Path(__file__).with_name("killing.py")


def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    seed = int.from_bytes(tmp_path.name.encode()[-4:])
    command = [sys.executable, str(KILLING), str(tmp_path / "store"), str(KILLS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{KILLS} kills")
