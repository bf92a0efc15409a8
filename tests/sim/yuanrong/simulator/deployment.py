"""The simulated scripts.py behind run_vllm_on_yr.sh: Controller, instances, entry; no model.

As upstream's docs/sample_code/llm_on_multiple_machines: refusals end with 0, the Controller
outlives the process that made it, /scaleout answers before there is an instance, /health is POST
and proves nothing. An instance is a log file; a completion says that it is simulated.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .installation import Installation

INTEGERS = {
    "--prefill-instances-num": "prefill",
    "--decode-instances-num": "decode",
    "-ptp": "ptp",
    "-dtp": "dtp",
    "-pdp": "pdp",
    "-ddp": "ddp",
    "--proxy-port": "port",
}
STARTUP_FAILURE = 3
"""uvicorn's exit code when it cannot bind."""


def run(installation: Installation, words: Sequence[str]) -> int:
    """Run scripts.py deploy or clean; return the exit code."""
    if list(words[:1]) == ["clean"]:
        return _clean(installation)
    given: dict[str, str] = {}
    rest = list(words[1:])
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        given[name] = value if equals else (rest.pop(0) if rest else "")
    wanted = {}
    for option, name in INTEGERS.items():
        try:
            wanted[name] = int(given.get(option, "1"))
        except ValueError:
            print("Usage: scripts.py deploy [OPTIONS]\nTry 'scripts.py deploy --help' for help.\n")
            text = f"Invalid value for '{option}': {given[option]!r} is not a valid integer."
            print(f"Error: {text}")
            return 2
    return _deploy(installation, wanted, given.get("--proxy-host", "127.0.0.1"))


def _deploy(installation: Installation, wanted: dict[str, int], host: str) -> int:
    """Deploy, and serve until killed."""
    if not _connected(installation):
        return 0
    controller = Path(installation.sessions) / "simulated-controller.json"
    if controller.exists():
        _say(
            "INFO",
            "There is already an controller running in the cluster, please clean before deploy "
            "again",
        )
        return 0
    _say("INFO", "No existing Controller found, creating new instance")
    mixed = not (wanted["prefill"] > 0 and wanted["decode"] > 0)
    sizes = [wanted["ptp"] * wanted["pdp"]] * wanted["prefill"]
    sizes += [wanted["dtp"] * wanted["ddp"]] * wanted["decode"]
    controller.write_text(json.dumps({"npus": 0, "mixed": mixed}))
    while not all(_place(installation, controller, size) for size in sizes):
        time.sleep(1)  # As the real one: what does not fit is waited for, and nothing says so.
        controller.write_text(json.dumps({"npus": 0, "mixed": mixed}))
    time.sleep(installation.load_seconds)
    _say("INFO", "Controller actor created.")
    return _serve(installation, controller, host, wanted)


def _place(installation: Installation, controller: Path, size: int) -> bool:
    """Start one instance if there are NPUs for it."""
    state = json.loads(controller.read_text())
    if state["npus"] + size > installation.npus:
        return False
    controller.write_text(json.dumps(state | {"npus": state["npus"] + size}))
    logs = next(p for name in ("logs", "log") if (p := installation.latest / name).is_dir())
    out = logs / f"runtime-{uuid.uuid4().hex[:8]}.out"
    out.write_text(
        f"SIMULATOR of a vLLM instance; env: {sorted(os.environ)}\n"
        "INFO:     Application startup complete.\n"
    )
    return True


def _serve(installation: Installation, controller: Path, host: str, wanted: dict[str, int]) -> int:
    """Be the entry, with uvicorn's words."""
    print(f"INFO:     Started server process [{os.getpid()}]")
    print("INFO:     Waiting for application startup.")
    print("INFO:     Application startup complete.", flush=True)
    port = wanted["port"]
    try:
        server = _Server((host, port), _Entry)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        where = f"error while attempting to bind on address ('{host}', {port}): {reason}"
        print(f"ERROR:    [Errno {error.errno}] {where}", flush=True)
        return STARTUP_FAILURE
    server.installation, server.controller = installation, controller
    server.size = wanted["ptp"] * wanted["pdp"]
    print(f"INFO:     Uvicorn running on http://{host}:{port} (Press CTRL+C to quit)", flush=True)
    server.serve_forever()
    return 0


class _Server(ThreadingHTTPServer):
    """The entry's server."""

    allow_reuse_address = True
    installation: Installation
    controller: Path
    size: int


class _Entry(BaseHTTPRequestHandler):
    """The entry's HTTP interface."""

    server: _Server

    def do_GET(self) -> None:
        """Refuse: everything is POST."""
        self._answer(405, {"detail": "Method Not Allowed"})

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/health":
            self._answer(200, "healthy")
        elif self.path == "/scaleout":
            self._scale_out()
        elif self.path == "/v1/completions":
            self._complete(body)
        else:
            self._answer(404, {"detail": "Not Found"})

    def _complete(self, body: bytes) -> None:
        """Answer as vLLM: 404 for a model of another name, which is the model's path here."""
        model = json.loads(body).get("model")
        if model not in (None, os.environ.get("MODEL_PATH")):
            error = {"message": f"The model `{model}` does not exist.", "code": 404}
            self._answer(404, {"error": error})
            return
        choice = {"index": 0, "text": "SIMULATOR", "finish_reason": "length"}
        usage = {"prompt_tokens": 15, "total_tokens": 16, "completion_tokens": 1}
        self._answer(200, {"object": "text_completion", "choices": [choice], "usage": usage})

    def _scale_out(self) -> None:
        """Answer first; the instance comes later, or never."""
        server = self.server
        if not server.controller.exists():
            self._answer(500, "Failed to scale out, reason: no controller")
            return
        self._answer(200, "")

        def add() -> None:
            time.sleep(server.installation.load_seconds)
            while not _place(server.installation, server.controller, server.size):
                time.sleep(1)

        threading.Thread(target=add, daemon=True).start()

    def _answer(self, status: int, body: Any) -> None:
        """Send one answer."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        """Say nothing of each request."""


def _clean(installation: Installation) -> int:
    """Remove Controller and instances, if the cluster can be reached."""
    if not _connected(installation):
        return 0
    controller = Path(installation.sessions) / "simulated-controller.json"
    if not controller.exists():
        _say("WARNING", "No existing Controller actor found, nothing to clean")
        return 0
    _say("INFO", "Found existing Controller actor, attempting to kill it")
    controller.unlink()
    return 0


def _connected(installation: Installation) -> bool:
    """Tell whether openYuanrong runs here, and say so as yr.init does."""
    try:
        line = installation.master_info.read_text()
        known = dict(part.split(":", 1) for part in line.split(",") if ":" in part)
        address = f"{known['master_ip']}:{known['global_scheduler_port']}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(f"http://{address}/global-scheduler/healthy", timeout=2).close()
    except (OSError, KeyError, ValueError) as error:
        _say("WARNING", f"Failed to connect YR cluster: {error}")
        return False
    _say("INFO", "Succeeded to init YR, jobID is job-51a70000")
    return True


def _say(level: str, text: str) -> None:
    """Write one line of the log."""
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')} {level}] {text}", file=sys.stderr, flush=True)
