"""``python3 -m pdinfra.yuanrong VERB``: openYuanrong's full mode on one host, in its container.

Prints one line, `ok: ...`, `changed: ...` or `failed: CAUSE. Fix: FIX`; `run` stays in the
foreground and prints a line for what changes, `members` and `key ... get` print what they found.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 neither done nor failed yet (`deploy`: ask again).
Settings are a JSON document: node, agents, and where there is one, deployment and max_model_len;
names and meanings as in runner.Settings. An install_path that is not absolute is below
site-packages.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import sysconfig
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pdinfra.yuanrong import kv, members
from pdinfra.yuanrong.commands import CommandError, Node, Ports
from pdinfra.yuanrong.environment import Deployment, EnvironmentRefusedError
from pdinfra.yuanrong.runner import Limits, RunError, Runner, Settings, StartingError
from pdinfra.yuanrong.supervisor import Supervisor

VERBS = ("start", "stop", "agents", "deploy", "clean", "scale-out")


class UsageError(Exception):
    """The settings cannot be read."""


def main(argv: Sequence[str]) -> int:
    """Run one verb; return the exit code."""
    wanted = _parser().parse_args(argv)
    try:
        said = _run(wanted)
    except UsageError as error:
        print(f"failed: {error}")
        return 2
    except StartingError as error:
        print(f"starting: {error}")
        return 3
    except (
        RunError,
        CommandError,
        EnvironmentRefusedError,
        kv.KvError,
        members.MembersError,
    ) as error:
        print(f"failed: {error}", flush=True)
        return 1
    if said:
        print(said)
    return 0


def settings(document: str) -> Settings:
    """Return the settings of a JSON document. Raises UsageError, naming what is wrong."""
    try:
        data = json.loads(document)
        if not isinstance(data, dict):
            raise TypeError(f"a {type(data).__name__} is no object with node and agents")
        node, deployment = dict(data.pop("node")), data.pop("deployment", None)
        ports, limits = Ports(**node.pop("ports", {})), Limits(**data.pop("limits", {}))
        return Settings(
            node=Node(**node, ports=ports),
            deployment=_installed(Deployment(**deployment)) if deployment else None,
            limits=limits,
            **data,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"no settings: {error}. Fix: see `--help`") from error


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="pdinfra.yuanrong", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("run", *VERBS):
        verb = verbs.add_parser(name)
        verb.add_argument("--settings", required=True, help="JSON file, or the JSON itself")
    listing = verbs.add_parser("members", help="keys of the data system's members in etcd")
    listing.add_argument("etcd", help="ip:port")
    key = verbs.add_parser("key", help="one key, at one data-system worker")
    key.add_argument("worker", help="ip:port")
    key.add_argument("what", choices=["put", "get"])
    key.add_argument("key")
    key.add_argument("value", nargs="?", default="", help="what is put")
    return parser


def _installed(deployment: Deployment) -> Deployment:
    """Return a deployment with openYuanrong's folder where this Python has its packages."""
    packages = sysconfig.get_path("platlib")
    return replace(deployment, install_path=str(Path(packages) / deployment.install_path))


def _run(wanted: argparse.Namespace) -> str:
    """Run one verb; return its line."""
    if wanted.verb == "members":
        return members.listed(wanted.etcd).rstrip("\n")
    if wanted.verb == "key" and wanted.what == "put":
        kv.write(wanted.worker, wanted.key, wanted.value.encode())
        return f"changed: {wanted.key} is written to {wanted.worker}"
    if wanted.verb == "key":
        return kv.read(wanted.worker, wanted.key).decode(errors="replace")
    document = wanted.settings
    if not document.lstrip().startswith("{"):
        try:
            document = Path(document).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"no settings: {error}. Fix: name a JSON file") from error
    runner = Runner(settings(document))
    if wanted.verb == "run":
        _supervise(runner)
        return ""
    verbs = (
        runner.start,
        runner.stop,
        runner.agents,
        runner.deploy,
        runner.clean,
        runner.scale_out,
    )
    return str(verbs[VERBS.index(wanted.verb)]())


def _supervise(runner: Runner) -> None:
    """Keep the node up until told to stop. Raises RunError when it is dead."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Supervisor(runner, lambda line: print(line, flush=True)).run(stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
