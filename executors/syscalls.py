"""System calls that no action may make, as a seccomp filter.

Only those of the kernel's key rings: a key ring belongs to a user, not to a sandbox, so what one
action leaves there another would find. They fail with ENOSYS, as on a kernel without key rings.

The filter is classic BPF over `struct seccomp_data` (seccomp(2)); numbers are of
asm/unistd.h, architectures of linux/audit.h.
"""

from __future__ import annotations

import errno
import functools
import struct
from typing import Final

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_X32: Final = 0x40000000

_KEYS: Final = {
    0xC000003E: (248, 249, 250),  # x86-64: add_key, request_key, keyctl
    0x40000003: (286, 287, 288),  # x86
    0xC00000B7: (217, 218, 219),  # aarch64
}


@functools.cache
def keyring_filter() -> bytes:
    """Return the filter as an array of `struct sock_filter`."""
    program: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for architecture, numbers in _KEYS.items():
        checks = [(_LOAD, 0, 0, _NUMBER), (_AND, 0, 0, 0xFFFFFFFF & ~_X32)]
        for place, number in enumerate(numbers):
            # past the other checks and the permission, to the refusal
            checks.append((_EQUAL, len(numbers) - place, 0, number))
        checks += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
        program += [(_EQUAL, 0, len(checks), architecture), *checks]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
