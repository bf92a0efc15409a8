"""start_servers.sh: find out what this container is by its rank tables, check, start it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from . import cards, engine, options, scheduler, tables
from .container import Container
from .options import Options
from .refusal import RefusalError
from .tables import Tables

NAME = "start_servers.sh (pdinfra's SIMULATOR of AscendCloud)"
CANN = "ASCEND_TOOLKIT_HOME"


def main(words: Sequence[str], container: Container) -> int:
    """Become the instance; return the exit code of one that does not start or was stopped."""
    try:
        asked = options.parse(words)
        _check_environment(container)
        found = tables.read(container)
        options.check(asked, found.role)
        address = cards.address(found.server)
        say(f"{found.role} {found.server}")
        if found.role == "scheduler":
            _schedule(container, found, asked)
        else:
            _become_engine(container, found, asked, address)
    except RefusalError as refusal:
        say(f"refused: {refusal}")
        return 1
    return 0


def say(text: str) -> None:
    """Write a line that shows who wrote it."""
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


def _check_environment(container: Container) -> None:
    """Refuse a shell that has not read ~/.bashrc, which is where the image sets CANN up."""
    if not container.env.get(CANN):
        text = f"{CANN} is not set: CANN's environment comes from ~/.bashrc"
        raise RefusalError(f"{text}, which only an interactive shell reads (bash -i)")


def _schedule(container: Container, found: Tables, asked: Options) -> None:
    """Run the scheduler. Raises RefusalError."""
    openai = container.env.get("USE_OPENAI", "1")
    if openai not in ("0", "1"):
        raise RefusalError(f"USE_OPENAI is {openai!r}, not 0 or 1")
    ports = container.variable("NODE_PORTS")
    scheduler.run(found, asked, ports, openai=openai == "1")


def _become_engine(container: Container, found: Tables, asked: Options, address: str) -> None:
    """Check and take the cards, then become vLLM. Raises RefusalError."""
    cards.check(container, found.server, asked.tensor_parallel_size)
    cards.claim(container)
    command = engine.command(found, asked)
    program = shutil.which(command[0])
    if program is None:
        raise RefusalError("the image has no vLLM")
    env = {**container.env, **engine.environment(found, asked, address)}
    os.execve(program, command, env)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Container(os.environ)))
