"""Builds of one spec from different directories, environments and users: the same digests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("project", ["hello", "lua", "brotli", "mbedtls"])
def test_projects_give_the_same_outputs_elsewhere(cold_bn: Bn, project: str) -> None:
    here = cold_bn.json("build", str(REPOSITORY / "specs" / project), "--no-link")
    elsewhere = cold_bn.directory.with_name("a place with spaces")
    shutil.copytree(REPOSITORY / "specs", elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    cold_bn.store = cold_bn.directory.with_name("other-store")
    cold_bn.env = {
        "PATH": os.environ["PATH"],
        "HOME": str(cold_bn.directory),
        "BN_STORE": str(cold_bn.store),
        "TZ": "Pacific/Auckland",
        "LANG": "tr_TR.UTF-8",
        "CFLAGS": "-O3 -g",
        "SOURCE_DATE_EPOCH": "1",
        "PYTHONHASHSEED": "7",
        **{name: value for name, value in os.environ.items() if "CERT" in name or "CA_" in name},
    }
    umask = os.umask(0o077)
    try:
        there = cold_bn.json("build", str(elsewhere / project), "--no-link", "--jobs", "1")
    finally:
        os.umask(umask)
    assert _digests(there) == _digests(here)
    assert there["result"] == here["result"]
    assert {step["status"] for step in there["steps"].values()} == {"built"}


def _digests(report: dict[str, dict[str, dict[str, str]]]) -> dict[str, tuple[str, str]]:
    return {label: (s["action"], s["outputs"]) for label, s in report["steps"].items()}
