"""Seeded changes of bytes and of text, for readers that must survive all of them."""

from __future__ import annotations

import random
import re

NUMBERS = (
    b"0", b"-1", b"1", b"2", b"3", b"7", b"65536", b"4294967295", b"2147483648", b"nan", b"-inf",
    b"18446744073709551616", b"99999999999", b"1e400", b"0x10", b"1.5", b"", b"\x00", b"\xff\xfe",
)  # fmt: skip
WORDS = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
HEAD = 700
"""Most formats keep what describes the data in their first bytes."""


def mutated(content: bytes, draw: random.Random, count: int = 3) -> bytes:
    """The content after one to `count` random changes."""
    for _ in range(draw.randint(1, count)):
        content = draw.choice(_CHANGES)(content, draw)
    return content


def _place(content: bytes, draw: random.Random) -> int:
    """A position, as often as not in the head."""
    end = len(content) if draw.random() < 0.5 else min(len(content), HEAD)
    return draw.randrange(end) if end else 0


def _flip(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return (
        content[:at]
        + bytes(b ^ (1 << draw.randrange(8)) for b in content[at : at + 1])
        + (content[at + 1 :])
    )


def _overwrite(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    piece = draw.choice([*WORDS, draw.randbytes(draw.choice([1, 2, 4, 8, 40]))])
    return content[:at] + piece + content[at + len(piece) :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: _place(content, draw)]


def _remove(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + content[at + draw.choice([1, 2, 4, 16, 300]) :]


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + draw.randbytes(draw.choice([1, 2, 4, 64])) + content[at:]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[: at + draw.choice([4, 40, 400])] + content[at:]


def _number(content: bytes, draw: random.Random) -> bytes:
    """Another number in the place of one that is written in digits, if any is."""
    found = list(re.finditer(rb"[-+.\d]*\d", content[:HEAD]))
    if not found:
        return content
    where = draw.choice(found)
    return content[: where.start()] + draw.choice(NUMBERS) + content[where.end() :]


def _swap_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


_CHANGES = (_flip, _overwrite, _cut, _remove, _insert, _repeat, _number, _number, _swap_lines)
