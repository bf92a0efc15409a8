"""One program for all simulated parts: yr itself, its daemon, and the components under it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import daemon, deployment, flags, functions, toml, worker
from .installation import Installation, install, load

HELP = """\
pdinfra's SIMULATOR of openYuanrong (`yr`). It schedules nothing and loads no model.

    yr install --into DIR --dialect flags|toml --etcd DIR [--sessions DIR] [--datasystem DIR]
               [--version V] [--without-functions] [--poll S] [--health S] [--npus N] [--load S]

writes DIR/bin/yr, what belongs to it, and DIR/deploy with the guides' scripts. With --datasystem
(the folder yr/datasystem of the wheel openyuanrong-datasystem) its workers are the real ones; etcd
always is."""


def main(argv: Sequence[str]) -> int:
    """Run one part; return the exit code."""
    if argv[:1] == ["install"]:
        return _install(argv[1:])
    if argv[:1] != ["--installation"]:
        print(HELP)
        return 0
    installation, part, words = load(argv[1]), argv[2], list(argv[4:])
    if part == "daemon":
        return daemon.run(installation, argv[3])
    if part == "datasystem_worker":
        return worker.run(words)
    if part == "scripts":
        return deployment.run(installation, words)
    if part in functions.PARTS:
        return functions.run(part, words)
    if installation.dialect == "flags":
        return flags.run(installation, words)
    return toml.run(installation, words)


def _install(words: Sequence[str]) -> int:
    """Write an installation."""
    parser = argparse.ArgumentParser(
        prog="yr install", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", required=True)
    parser.add_argument("--dialect", required=True, choices=["flags", "toml"])
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--sessions", default="/tmp/yr_sessions")
    parser.add_argument("--datasystem", default="")
    parser.add_argument("--version", default="9.9.9")
    parser.add_argument("--without-functions", action="store_true")
    parser.add_argument("--poll", type=float, default=3.0)
    parser.add_argument("--health", type=float, default=65.0)
    parser.add_argument("--npus", type=int, default=16)
    parser.add_argument("--load", type=float, default=1.0)
    asked = parser.parse_args(words)
    print(
        install(
            Installation(
                root=asked.into,
                dialect=asked.dialect,
                etcd=asked.etcd,
                sessions=asked.sessions,
                version=asked.version,
                datasystem=asked.datasystem,
                functions=not asked.without_functions,
                poll_seconds=asked.poll,
                health_seconds=asked.health,
                npus=asked.npus,
                load_seconds=asked.load,
            )
        )
    )
    return 0
