"""A small process that runs one command and notes its time, its processor time and its memory.

Run it: python -I -S runner.py NOTE COMMAND… It is small because a process starts its count of
memory with what the one that made it had.
"""

import json
import os
import sys
import time


def main(note: str, command: list[str]) -> int:
    """Run `command` and write to the file `note` what it took; return its exit code."""
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(child, 0)
    taken = time.perf_counter() - started
    text = json.dumps(
        {
            "seconds": taken,
            "cpu": used.ru_utime + used.ru_stime,
            "memory": used.ru_maxrss * 1024,
        }
    )
    with open(note, "w") as file:
        file.write(text)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
