"""Does in the present folder all that the README says, in its order; prints the commands used.

A process of its own, because the type checks of the test suite double the time of compilation.
"""

import shlex
from pathlib import Path

from lattice.cli.main import main
from lattice.engine import simulation
from tests.docs.blocks import blocks_of, named_toml

MADE_ELSEWHERE = {"make demo", "make test"}
"""Commands that take minutes: only their targets are looked up."""


def follow() -> set[str]:
    """Write every model file, run every example and command; returns the commands' names."""
    # Lists as long as the lattice: all runs of a model then share one compiled step.
    simulation.SMALLEST_CAPACITY = 2**20
    ran = set()
    for number, (language, text) in enumerate(blocks_of("README.md")):
        if language == "toml":
            Path(named_toml(text, f"block{number}.toml")).write_text(text)
        elif language == "python":
            exec(compile(text, f"README.md, block {number}", "exec"), {})
        else:
            assert language == "sh", language
            ran |= {command(line) for line in text.splitlines() if line.strip()}
    return ran - {"make"}


def command(line: str) -> str:
    """Run one line of a shell; returns its command."""
    program, *arguments = shlex.split(line, comments=True)
    if " ".join([program, *arguments]) in MADE_ELSEWHERE:
        return program
    assert program == "osteolattice", line
    if arguments[0] in ("run", "resume"):
        arguments.append("--quiet")
    assert main(arguments) == 0, line
    return arguments[0]


if __name__ == "__main__":
    print(*sorted(follow()))
