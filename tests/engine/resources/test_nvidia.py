"""NVIDIA's own Python library (the extra `gpu`), over a driver that tells recorded answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import engine

pytest.importorskip("pynvml", reason="the extra `gpu` is not installed")
if shutil.which("gcc") is None:
    pytest.skip("no compiler for the driver's stand-in", allow_module_level=True)

DRIVER = r"""
#include <string.h>
typedef int code;
typedef struct { unsigned long long total, free, used; } memory;
static const char *names[] = {"NVIDIA GeForce RTX 3090", "Tesla V100-SXM2-32GB"};
static const unsigned long long totals[] = {25769803776ull, 34359738368ull};
static const unsigned long long used[] = {1319108608ull, 0ull};
static int cards[] = {0, 1};
code nvmlInitWithFlags(unsigned flags) { return INIT; }
code nvmlInit_v2(void) { return INIT; }
code nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(code result) { return "told by the driver"; }
code nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
code nvmlDeviceGetHandleByIndex_v2(unsigned at, void **card) { *card = &cards[at]; return 0; }
code nvmlDeviceGetName(int *card, char *name, unsigned size) {
    strncpy(name, names[*card], size);
    return 0;
}
code nvmlDeviceGetMemoryInfo(int *card, memory *told) {
    told->total = totals[*card];
    told->used = used[*card];
    told->free = told->total - told->used;
    return 0;
}
code nvmlDeviceGetTemperature(int *card, int sensor, unsigned *celsius) {
    if (*card == 1)
        return 3; /* not supported */
    *celsius = 47;
    return 0;
}
"""

ASK = """
import json
from engine.resources.discover import gpu
from attrs import asdict
found, absent = gpu.read()
print(json.dumps([[asdict(one) for one in found if one.told_by == "nvml"], absent]))
"""

DRIVER_NOT_LOADED = 9


def asked(directory: Path, init: int) -> Any:
    """Return what is found with a driver whose start ends with a code."""
    source = directory / "driver.c"
    source.write_text(DRIVER)
    library = directory / "libnvidia-ml.so.1"
    command = ["gcc", "-shared", "-fPIC", f"-DINIT={init}", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    root = Path(engine.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(root)!r})\n{ASK}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(directory)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_cards_as_the_driver_tells_of_them(tmp_path: Path) -> None:
    (first, second), absent = asked(tmp_path, 0)
    assert (first["name"], first["celsius"]) == ("NVIDIA GeForce RTX 3090", 47.0)
    assert (first["memory"], first["memory_used"]) == (24 * 2**30, 1319108608)
    assert (second["name"], second["celsius"]) == ("Tesla V100-SXM2-32GB", None)
    assert second["memory"] == 32 * 2**30
    assert "gpus" not in absent


def test_driver_that_is_not_loaded(tmp_path: Path) -> None:
    found, _ = asked(tmp_path, DRIVER_NOT_LOADED)
    assert found == []
