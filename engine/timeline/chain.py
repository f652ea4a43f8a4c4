"""The chain of a timeline: each line carries a hash of itself and of the link before it.

A line is the JSON object of an event whose last member is ``"chain":"NUMBER-LINK"``. NUMBER counts
from 1; LINK is the first half, 32 hexadecimal digits, of BLAKE3 over the link before it and the
object without that member. What stands before the first line is `beginning`, so that no timeline
passes for another build's.
"""

from __future__ import annotations

import re
from typing import Final

from store.digest import digest_bytes
from store.records import define, frozen

LENGTH: Final = 32
"""Hexadecimal digits of a link."""

_LINE: Final = rb'(\{.+),"chain":"([1-9][0-9]*)-([0-9a-f]{32})"\}'


@frozen
class Head:
    """The end of a timeline: how many events it has, and the link of the last one."""

    events: int
    link: str


@frozen
class Linked:
    """A line taken apart: the event's JSON text without its link, its number, its link."""

    body: bytes
    number: int
    link: str

    def follows(self, link: str) -> bool:
        """Say whether it is what was written after `link`."""
        return self.link == following(link, self.body)


@define
class Chain:
    """The chain while it grows."""

    head: Head

    def line(self, body: bytes) -> bytes:
        """Return the line of an event, given the text of its JSON object, which has a member."""
        link = following(self.head.link, body)
        self.head = Head(self.head.events + 1, link)
        return b'%b,"chain":"%d-%b"}\n' % (body[:-1], self.head.events, link.encode())


def beginning(build: str) -> Head:
    """Return what the first event of a build's timeline is linked to."""
    return Head(0, digest_bytes(f"bn timeline\0{build}".encode())[:LENGTH])


def following(link: str, body: bytes) -> str:
    """Return the link of an event that comes after `link`."""
    return digest_bytes(link.encode() + body)[:LENGTH]


def taken_apart(line: bytes) -> Linked | None:
    """Return a line in parts; None where it is no event of a chain."""
    found = re.fullmatch(_LINE, line)
    if found is None:
        return None
    return Linked(found[1] + b"}", int(found[2]), found[3].decode())
