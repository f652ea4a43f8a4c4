"""Servers' processes that are killed while they take uploads: what was acknowledged is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 50
SERVING = Path(__file__).with_name("serving.py")


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_fifty_kills_lose_nothing_acknowledged(tmp_path: Path, durability: str) -> None:
    seed = int.from_bytes(tmp_path.name.encode()[-4:])
    command = [sys.executable, str(SERVING), str(tmp_path / "store"), str(KILLS), str(seed)]
    command.append(durability)
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{KILLS} kills")
