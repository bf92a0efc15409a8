#!/usr/bin/python
# Copyright: pdinfra contributors. Licence: Apache-2.0
"""Try connections between hosts before the containers that need them exist, and hash models."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import secrets
import selectors
import signal
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pd_probe
short_description: Try what the containers of a service will need of a host
description:
  - A port that nobody listens on looks the same as one that a firewall rejects. So the hosts first
    listen on the planned ports (C(listen)), then the peers connect (C(connect)), then the
    listeners go away (C(stop)). A listener ends by itself after C(seconds) at the latest.
  - C(checksums) hashes files; what was hashed before and has not changed since
    is taken from C(cache).
  - Changes nothing of the host besides that cache. Uses Python's standard library only.
options:
  listen:
    description: Endpoints to listen on, as dictionaries of C(address) and C(port).
    type: list
    elements: dict
    default: []
  seconds:
    description: Longest life of the listener, in seconds.
    type: int
    default: 60
  connect:
    description: Endpoints to connect to, as dictionaries of C(address) and C(port).
    type: list
    elements: dict
    default: []
  timeout:
    description: Longest wait for one connection, in seconds.
    type: float
    default: 3
  stop:
    description: Token of the listener to stop; empty stops none.
    type: str
    default: ''
  checksums:
    description: Files to hash.
    type: list
    elements: str
    default: []
  cache:
    description: File that keeps checksums by path, size and time of change; empty keeps none.
    type: str
    default: ''
author: pdinfra contributors (@pdinfra)
"""

EXAMPLES = r"""
- name: Listen where engines will
  pd_probe:
    listen: [{address: 10.0.0.2, port: 8100}]
  register: listening

- name: Connect to them
  pd_probe:
    connect: [{address: 10.0.0.2, port: 8100}]

- name: Stop to listen
  pd_probe:
    stop: "{{ listening.token }}"
"""

RETURN = r"""
token:
  description: Name of the listener that was started; empty if none was needed.
  type: str
  returned: always
shut:
  description: Why an endpoint could not be opened, by C(address:port).
  type: dict
  returned: always
connects:
  description: C(open), or in words why not, by C(address:port).
  type: dict
  returned: always
digests:
  description: SHA-256 by path.
  type: dict
  returned: always
"""

AT_ONCE = 256
"""Connections that are tried side by side; far below the usual limit of open files."""
CHUNK = 1 << 20
NO_LINGER = struct.pack("ii", 1, 0)
"""Close with RST: a port that waits in TIME_WAIT could not be bound by the engine after us."""


def listen(endpoints: list[dict[str, Any]], seconds: int) -> tuple[str, dict[str, str]]:
    """Start a listener that outlives this call; return its token, and why endpoints stay shut."""
    servers, shut = [], {}
    for endpoint in endpoints:
        name = "%s:%s" % (endpoint["address"], endpoint["port"])
        try:
            servers.append(server(endpoint["address"], int(endpoint["port"])))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                shut[name] = error.strerror or str(error)
    if not servers:
        return "", shut
    token = secrets.token_hex(8)
    control = socket.socket(socket.AF_UNIX)
    control.bind(control_name(token))
    control.listen()
    # All sockets are open here already: who is told the token can connect at once.
    if os.fork() == 0:
        detach()
        serve(control, servers, seconds)
        os._exit(0)
    for mine in (control, *servers):
        mine.close()
    return token, shut


def server(address: str, port: int) -> socket.socket:
    """Return a listening socket. Raises OSError."""
    family, kind, protocol, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(where)
        opened.listen(AT_ONCE)
    except OSError:
        opened.close()
        raise
    return opened


def control_name(token: str) -> str:
    """Return the abstract name of a listener's control socket: no file is left behind."""
    return "\0pdinfra-probe-%s" % token


def detach() -> None:
    """Leave the session and the output of the call, so that it can end before this process."""
    os.setsid()
    # If a run is cut off, the next one says by name what still holds the port for a moment.
    with open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("pdinfra-probe")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    # Whatever happens below, the kernel ends this process.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def serve(control: socket.socket, servers: list[socket.socket], seconds: int) -> None:
    """Accept until asked to stop, or the time is over; the peer closes first."""
    signal.alarm(seconds)
    with selectors.DefaultSelector() as selector:
        for each in (control, *servers):
            selector.register(each, selectors.EVENT_READ, each)
        while True:
            for key, _ in selector.select():
                ready: socket.socket = key.data
                if ready is control:
                    # Who asked waits for the control socket, which goes last.
                    for each in servers:
                        each.close()
                    return
                if ready in servers:
                    accepted, _ = ready.accept()
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                    selector.register(accepted, selectors.EVENT_READ, accepted)
                else:
                    selector.unregister(ready)
                    ready.close()


def stop(token: str) -> None:
    """Stop a listener, and wait until its ports are free; one that is gone already is no fault."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(control_name(token))
            client.recv(1)
        except OSError:
            return


def connect(endpoints: list[dict[str, Any]], timeout: float) -> dict[str, str]:
    """Try all endpoints; return ``open`` or why not, by ``address:port``."""

    async def everything() -> dict[str, str]:
        room = asyncio.Semaphore(AT_ONCE)
        tries = [attempt(e["address"], int(e["port"]), timeout, room) for e in endpoints]
        return dict(await asyncio.gather(*tries))

    return asyncio.run(everything())


async def attempt(
    address: str, port: int, timeout: float, room: asyncio.Semaphore
) -> tuple[str, str]:
    """Try one connection; return its name and what came of it."""
    name = "%s:%s" % (address, port)
    async with room:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), timeout)
        except asyncio.TimeoutError:
            return name, "timed out"
        except ConnectionRefusedError:
            return name, "refused"
        except OSError as error:
            return name, error.strerror or str(error)
        writer.close()
        return name, "open"


def checksums(paths: list[str], cache: str) -> dict[str, str]:
    """Return the SHA-256 of files by path; what cannot be read is left out."""
    known = read_cache(cache)
    # Hashing lets other threads run; the disk is the limit, more readers would only make it seek.
    with ThreadPoolExecutor(max_workers=2) as pool:
        rows = [row for row in pool.map(lambda path: digest(path, known), paths) if row]
    write_cache(cache, {key: value for _, key, value in rows})
    return {path: value for path, _, value in rows}


def digest(path: str, known: dict[str, str]) -> tuple[str, str, str] | None:
    """Return a file's path, its key in the cache and its SHA-256; None if it cannot be read."""
    try:
        stat = os.stat(path)
        key = "%s %d %d" % (path, stat.st_size, stat.st_mtime_ns)
        if key in known:
            return path, key, known[key]
        total = hashlib.sha256()
        with open(path, "rb") as handle:
            for block in iter(lambda: handle.read(CHUNK), b""):
                total.update(block)
    except OSError:
        return None
    return path, key, total.hexdigest()


def read_cache(path: str) -> dict[str, str]:
    """Return what was hashed before; nothing where that cannot be read."""
    try:
        with open(path, encoding="utf-8") as handle:
            return dict(json.load(handle))
    except (OSError, ValueError, TypeError):
        return {}


def write_cache(path: str, known: dict[str, str]) -> None:
    """Keep what was hashed; a host that does not let us is hashed anew next time."""
    if not path:
        return
    fresh = "%s.%d" % (path, os.getpid())
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(fresh, "w", encoding="utf-8") as handle:
            json.dump(known, handle)
        os.replace(fresh, path)
    except OSError:
        return


def main() -> None:
    """Do what is asked for, in the order stop, listen, connect, hash."""
    module = AnsibleModule(
        argument_spec={
            "listen": {"type": "list", "elements": "dict", "default": []},
            "seconds": {"type": "int", "default": 60},
            "connect": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "float", "default": 3},
            "stop": {"type": "str", "default": ""},
            "checksums": {"type": "list", "elements": "str", "default": []},
            "cache": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    if wanted["stop"]:
        stop(wanted["stop"])
    token, shut = listen(wanted["listen"], wanted["seconds"])
    connects = connect(wanted["connect"], wanted["timeout"])
    digests = checksums(wanted["checksums"], wanted["cache"])
    module.exit_json(
        changed=False,
        token=token,
        shut=shut,
        connects=connects,
        digests=digests,
    )


if __name__ == "__main__":
    main()
