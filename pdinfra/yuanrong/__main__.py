"""``python3 -m pdinfra.yuanrong VERB``: openYuanrong's full mode on one host, in its container.

Prints one line, `ok: ...`, `changed: ...` or `failed: CAUSE. Fix: FIX`. Exit codes: 0 done,
1 failed, 2 wrong usage. Settings are a JSON document: node, agents, and where there is one,
deployment and max_model_len; names and meanings as in runner.Settings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pdinfra.yuanrong import kv
from pdinfra.yuanrong.commands import CommandError, Node, Ports
from pdinfra.yuanrong.environment import Deployment
from pdinfra.yuanrong.runner import Limits, RunError, Runner, Settings

VERBS = ("start", "stop", "agents", "deploy", "clean", "scale-out")


class UsageError(Exception):
    """The settings cannot be read."""


def main(argv: Sequence[str]) -> int:
    """Run one verb; return the exit code."""
    parser = argparse.ArgumentParser(prog="pdinfra.yuanrong", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in VERBS:
        verb = verbs.add_parser(name)
        verb.add_argument("--settings", type=Path, required=True, help="JSON file")
    for name in ("kv-write", "kv-read"):
        verb = verbs.add_parser(name, help="one key, at one data-system worker")
        verb.add_argument("--worker", required=True, help="ip:port")
        verb.add_argument("--key", required=True)
        verb.add_argument("--value", required=True, help="written, or expected")
    wanted = parser.parse_args(argv)
    try:
        print(_run(wanted))
    except UsageError as error:
        print(f"failed: {error}")
        return 2
    except (RunError, CommandError, kv.KvError) as error:
        print(f"failed: {error}")
        return 1
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
            deployment=Deployment(**deployment) if deployment else None,
            limits=limits,
            **data,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"no settings: {error}. Fix: see `--help`") from error


def _run(wanted: argparse.Namespace) -> str:
    """Run one verb; return its line."""
    if wanted.verb == "kv-write":
        kv.write(wanted.worker, wanted.key, wanted.value.encode())
        return f"changed: {wanted.key} is written to {wanted.worker}"
    if wanted.verb == "kv-read":
        found = kv.read(wanted.worker, wanted.key)
        if found != wanted.value.encode():
            raise kv.KvError(f"worker {wanted.worker} has another value under {wanted.key}")
        return f"ok: {wanted.key} is read from {wanted.worker}"
    try:
        document = wanted.settings.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"no settings: {error}. Fix: name a JSON file") from error
    runner = Runner(settings(document))
    verbs = (
        runner.start,
        runner.stop,
        runner.agents,
        runner.deploy,
        runner.clean,
        runner.scale_out,
    )
    return str(verbs[VERBS.index(wanted.verb)]())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
