"""The fenced blocks of the documents, and how a block of changes is applied."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks_of(document: str, section: str | None = None) -> list[tuple[str, str]]:
    """(language, text) of each fenced block, in order; `section` restricts to one heading."""
    text = (ROOT / document).read_text()
    if section is not None:
        text = re.split(rf"^#+ {re.escape(section)}$", text, flags=re.M)[1]
        text = re.split(r"^#+ ", _without_code(text), maxsplit=1, flags=re.M)[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", _with_code(text), flags=re.M | re.S)


def _without_code(text: str) -> str:
    """A comment in a block begins as a heading does."""
    inside, lines = False, []
    for line in text.splitlines():
        inside ^= line.startswith("```")
        lines.append(line.replace("#", "\0", 1) if inside and line.startswith("#") else line)
    return "\n".join(lines) + "\n"


def _with_code(text: str) -> str:
    return text.replace("\0", "#")


def named_toml(text: str, fallback: str) -> str:
    """The name of the file that a block says it is in its first line."""
    found = re.match(r"# (\w+\.toml)\n", text)
    return found[1] if found else fallback


def apply_change(block: str, root: Path) -> None:
    """Apply a diff without line numbers: what it shows as old occurs exactly once in the file."""
    first, *lines = block.splitlines()
    path = root / first.removeprefix("# ")
    old = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-"))
    new = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+"))
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} does not hold exactly once:\n{old}"
    path.write_text(text.replace(old, new))
