#!/usr/bin/python
# Copyright: pdinfra contributors. Licence: Apache-2.0
"""Hand out a model to other hosts for a while, so that it is downloaded once.

Why a server of its own: rsync between hosts needs keys from each to each, and a relay over the
controller sends everything twice. Here the others pull, several at a time, resume and verify with
the same code as from a hub. Who does not know the run's token gets nothing; it ends when told to,
or by itself when nobody has asked for anything for a while.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import http.client
import http.server
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.parse
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pd_model_serve
short_description: Hand out a model to other hosts for a while
description:
  - Starts an HTTP server of its own session that serves the files of a model's manifest (written
    by M(pd_model)) to those who know the token, with ranges; or ends it.
  - Uses Python's standard library only.
options:
  path:
    description: The model's directory.
    type: str
    required: true
  address:
    description: Address to listen on.
    type: str
    required: true
  port:
    description: Port to listen on.
    type: int
    required: true
  token:
    description: What a client has to send as a bearer token.
    type: str
    required: true
  state:
    description: Start it, or end it.
    type: str
    choices: [started, stopped]
    default: started
  idle_seconds:
    description: Ends by itself when nobody has asked for anything for so long.
    type: int
    default: 300
author: pdinfra contributors (@pdinfra)
"""

EXAMPLES = r"""
- name: Hand out the model
  pd_model_serve:
    path: /srv/models/qwen
    address: 192.0.2.11
    port: 8990
    token: "{{ token_of_this_run }}"
"""

RETURN = r"""# """

MANIFEST = ".pdinfra-model.json"
CHUNK = 1 << 20
NOTE = ".pdinfra-share.json"
"""For the owner's eyes only: the running server's token, so that a later run can end it."""
RANGE = re.compile(r"bytes=(\d+)-$")


class ServeError(Exception):
    """Why it cannot be done: one line with thing, cause and fix."""


class Server(http.server.ThreadingHTTPServer):
    """Serves one model until it is told to end, or idle for too long."""

    daemon_threads = True
    # Ports of servers that just ended may be used again; a port that somebody listens on, not.
    allow_reuse_address = True

    def __init__(self, address: str, port: int, path: str, token: str, idle: float) -> None:
        """Bind and listen. Raises OSError."""
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)
        self.path, self.token, self.idle = path, token, idle
        self.used = time.monotonic()
        self.active = 0
        self.lock = threading.Lock()

    def server_bind(self) -> None:
        """Bind without asking a name server for the host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "pdinfra", self.server_address[1]

    def count(self, step: int) -> None:
        """Note that a request begins (1) or ends (-1)."""
        with self.lock:
            self.active += step
            self.used = time.monotonic()

    def service_actions(self) -> None:
        """End when idle for too long (called twice a second)."""
        with self.lock:
            over = not self.active and time.monotonic() - self.used > self.idle
        if over:
            threading.Thread(target=self.shutdown).start()


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = 60

    def do_GET(self) -> None:
        """Answer with the manifest or a file of it."""
        self.server.count(1)
        try:
            if self._allowed():
                self._answer()
        except OSError:
            # The client went away, or the file did: its end is all that can be told.
            self.close_connection = True
        finally:
            self.server.count(-1)

    def do_POST(self) -> None:
        """End the server."""
        if self._allowed():
            self._start(200, 0)
            threading.Thread(target=self.server.shutdown).start()

    def _allowed(self) -> bool:
        """Tell whether the token is right; answer if it is not."""
        expected = "Bearer %s" % self.server.token
        given = self.headers.get("Authorization") or ""
        if hmac.compare_digest(given.encode(), expected.encode()):
            return True
        self._start(401, 0)
        return False

    def _answer(self) -> None:
        """Send what is asked for."""
        manifest = os.path.join(self.server.path, MANIFEST)
        if self.path == "/manifest":
            self._send(manifest)
            return
        name = urllib.parse.unquote(self.path[len("/files/") :])
        with open(manifest, encoding="utf-8") as handle:
            known = {row["path"] for row in json.load(handle)["files"]}
        if not self.path.startswith("/files/") or name not in known:
            self._start(404, 0)
            return
        self._send(os.path.join(self.server.path, *name.split("/")))

    def _send(self, path: str) -> None:
        """Send a file, from the byte that was asked for."""
        with open(path, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            asked = RANGE.match(self.headers.get("Range") or "")
            offset = int(asked.group(1)) if asked else 0
            if asked and offset >= size:
                self._start(416, 0)
                return
            said = "bytes %d-%d/%d" % (offset, size - 1, size) if asked else ""
            self._start(206 if asked else 200, size - offset, said)
            handle.seek(offset)
            for chunk in iter(lambda: handle.read(CHUNK), b""):
                self.wfile.write(chunk)

    def _start(self, status: int, length: int, content_range: str = "") -> None:
        """Send the head of an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: nobody reads it."""


def stop(address: str, port: int, token: str) -> bool:
    """Tell a server to end; return whether there was one that knows the token."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("POST", "/stop", headers={"Authorization": "Bearer %s" % token})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_closed(address: str, port: int, seconds: float = 10.0) -> None:
    """Wait until nobody listens there any more: it says goodbye before it goes."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            if probe.connect_ex((address, port)):
                return
        time.sleep(0.05)


def bind(params: dict[str, Any]) -> Server:
    """Return a server that listens; one that an interrupted run left behind makes room."""
    address, port = params["address"], params["port"]
    limit = time.monotonic() + 5
    ended = False
    while True:
        try:
            return Server(address, port, params["path"], params["token"], params["idle_seconds"])
        except OSError as error:
            cause = error
        left = left_token(params["path"])
        ended = ended or (left != "" and stop(address, port, left))
        if cause.errno != errno.EADDRINUSE or not ended or time.monotonic() > limit:
            fix = "end what listens there, or set pd_model_port"
            raise ServeError("port %d of %s: %s; %s" % (port, address, cause.strerror, fix))
        time.sleep(0.1)


def left_token(path: str) -> str:
    """Return the token of a server that an earlier run left behind, if any."""
    try:
        with open(os.path.join(path, NOTE), encoding="utf-8") as handle:
            return str(json.load(handle)["token"])
    except (OSError, ValueError, KeyError):
        return ""


def write_note(path: str, token: str) -> None:
    """Keep the token for a later run."""
    note = os.path.join(path, NOTE)
    forget(path)
    with os.fdopen(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        json.dump({"token": token}, handle)


def forget(path: str) -> None:
    """Remove the note."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(path, NOTE))


def start(params: dict[str, Any]) -> None:
    """Start the server, a process of its own session; return when it listens."""
    if not os.path.isfile(os.path.join(params["path"], MANIFEST)):
        raise ServeError(
            "%s: no manifest, it was not delivered or counted by pdinfra" % params["path"]
        )
    server = bind(params)
    write_note(params["path"], params["token"])
    child = os.fork()
    if child:
        server.socket.close()
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    try:
        server.serve_forever()
        server.server_close()
        if left_token(params["path"]) == params["token"]:
            forget(params["path"])
    finally:
        os._exit(0)


def main() -> None:
    """Start or end it."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "state": {"type": "str", "default": "started", "choices": ["started", "stopped"]},
            "idle_seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    params = dict(module.params, path=module.params["path"].rstrip("/"))
    if module.check_mode:
        module.exit_json(changed=True)
    if params["state"] == "stopped":
        stopped = stop(params["address"], params["port"], params["token"])
        if stopped:
            wait_closed(params["address"], params["port"])
        module.exit_json(changed=stopped)
    try:
        start(params)
    except (ServeError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
