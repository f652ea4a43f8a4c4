"""A small process that runs one command and notes its time, its processor time and its memory.

Run it: python -I -S runner.py NOTE GROUP COMMAND… GROUP is the cgroup.procs of a control group that
counts processor time, or nothing. It is small, and the command its child, so that what is counted
is the command's.
"""

import _thread
import json
import os
import sys
import time

POLL = 0.01
"""Seconds between two looks at the command's peak of memory; the first `SOON` come faster."""

SOON = 25
ENOUGH = 8
"""Looks from which on the last one is believed."""


def watch(pid: int, peaks: list[int]) -> None:
    """Note the peak of resident memory of a process, in bytes, while there is one."""
    while True:
        try:
            with open(f"/proc/{pid}/status") as file:
                lines = [line for line in file if line.startswith("VmHWM:")]
        except OSError:
            return
        if not lines:
            return
        peaks.append(int(lines[0].split()[1]) * 1024)
        time.sleep(POLL if len(peaks) > SOON else POLL / 5)


def main(note: str, group: str, command: list[str]) -> int:
    """Run `command` and write to the file `note` what it took; return its exit code."""
    if group:
        with open(group, "w") as file:
            file.write(str(os.getpid()))
    peaks: list[int] = []
    own = time.process_time()
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _thread.start_new_thread(watch, (child, peaks))
    _, status, used = os.wait4(child, 0)
    taken = time.perf_counter() - started
    largest = used.ru_maxrss * 1024
    text = json.dumps(
        {
            "seconds": taken,
            "cpu": used.ru_utime + used.ru_stime,
            "memory": peaks[-1] if len(peaks) >= ENOUGH else largest,
            "largest": largest,
            "own": time.process_time() - own,
        }
    )
    with open(note, "w") as file:
        file.write(text)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
