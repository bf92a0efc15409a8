"""``python -m pdinfra_ray``: keep an application on Ray Serve, or tell whether it answers."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from typing import Any

from pdinfra_ray.judge import gap, step
from pdinfra_ray.serve import Serve, ServeError

LOOK_SECONDS = 5.0
AGAIN_SECONDS = 60.0
"""Before what failed is tried again: a model that does not fit does not fit in five seconds."""
PROBE_SECONDS = 4.0


def main() -> int:
    """Return 0 when asked to end, or when all is well."""
    options = _parser().parse_args()
    serve = Serve(options.dashboard)
    if options.ready:
        return _ready(serve)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    keep(serve, json.loads(options.application), ended)
    return 0


def keep(serve: Serve, wanted: dict[str, Any], ended: threading.Event) -> None:
    """Make Serve have the application until asked to end: it goes on without this."""
    said = ""
    pause = 0.0
    while not ended.wait(pause):
        pause = LOOK_SECONDS
        try:
            found = serve.found()
            todo = step(wanted, found)
            word = gap(found) or "all deployments answer"
            if todo == "clear":
                word = "the entry moves: everything is taken away, and comes anew"
                serve.clear()
            if todo == "deploy":
                failed = _failed(wanted, found)
                word = f"{failed}; deployed again" if failed else "deployed"
                serve.deploy(wanted)
                pause = AGAIN_SECONDS if failed else LOOK_SECONDS
        except ServeError as error:
            word = str(error)
        if word != said:
            print(word, flush=True)
        said = word


def _failed(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    """Return what Serve says of an application that could not be deployed; empty if it could."""
    running = found.get("applications") or {}
    for application in wanted["applications"]:
        mine = running.get(application["name"]) or {}
        if mine.get("status") == "DEPLOY_FAILED":
            return f"{application['name']} failed: {mine.get('message')}"
    return ""


def _ready(serve: Serve) -> int:
    """Return 0 if requests can be answered; say why not."""
    try:
        why = gap(serve.found(PROBE_SECONDS))
    except ServeError as error:
        why = str(error)
    print(why or "ready")
    return 1 if why else 0


def _parser() -> argparse.ArgumentParser:
    """Return the arguments."""
    parser = argparse.ArgumentParser(prog="pdinfra_ray", description=__doc__)
    parser.add_argument("--dashboard", required=True, help="URL of the dashboard, on the head")
    parser.add_argument("--application", default="{}", help="what Serve is to have, JSON")
    parser.add_argument("--ready", action="store_true", help="only tell whether it answers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
