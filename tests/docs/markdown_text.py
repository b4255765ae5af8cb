"""Read what the tests need from Markdown: commands, links and anchors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(```+|~~~+)\s*(\w*)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+\s+(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, and the number of its first line."""

    language: str
    lines: tuple[str, ...]
    number: int


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    found: list[Block] = []
    fence, language, start = "", "", 0
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line)
        if not fence and match:
            fence, language, lines, start = match[1], match[2], [], number + 1
        elif fence and line.strip() == fence:
            found.append(Block(language, tuple(lines), start))
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        raise ValueError(f"the block that begins before line {start} never ends")
    return found


def commands(text: str) -> list[tuple[int, str]]:
    """Return line number and command of every `$ ` line in the console blocks, in order.

    A command goes on in lines that begin with `> `, as a shell shows it.
    """
    found: list[tuple[int, str]] = []
    for block in blocks(text):
        if block.language != "console":
            continue
        for number, line in enumerate(block.lines, block.number):
            if line.startswith("$ "):
                found.append((number, line[2:]))
            elif line.startswith("> ") and found:
                first, command = found[-1]
                found[-1] = (first, f"{command}\n{line[2:]}")
    return found


def links(text: str) -> list[str]:
    """Return the targets of all links and images outside fenced blocks."""
    return [first or second for first, second in _LINK.findall(_prose(text))]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    found = set()
    for line in _prose(text).splitlines():
        if match := _HEADING.match(line):
            words = re.sub(r"[^\w\- ]", "", match[1].replace("`", "").lower())
            found.add(words.strip().replace(" ", "-"))
    return found


def documents() -> list[Path]:
    """Return every Markdown file of the project."""
    top = sorted(ROOT.glob("*.md"))
    below = [p for folder in ("docs", "examples") for p in sorted((ROOT / folder).rglob("*.md"))]
    return [*top, *below]


def _prose(text: str) -> str:
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if not fence and match:
            fence = match[1]
        elif fence and line.strip() == fence:
            fence = ""
        elif not fence:
            lines.append(line)
    return "\n".join(lines)
