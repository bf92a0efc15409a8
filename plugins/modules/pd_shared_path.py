#!/usr/bin/python
# Copyright: pdinfra contributors. Licence: Apache-2.0
"""Find out whether a folder is the same one on several hosts: write a file, read the others'."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pd_shared_path
short_description: Find out whether a folder is the same one on several hosts
description:
  - Every host writes a file (C(write)), every host reads the files of all (C(read)), every host
    removes its own (C(remove)). What was found is judged by C(pdinfra.doctor) on the controller.
  - Leaves nothing behind, and never fails. Uses Python's standard library only.
options:
  folder:
    description: The folder.
    type: str
    required: true
  action:
    description: What to do.
    type: str
    choices: [write, read, remove]
    required: true
  host:
    description: Who this host is; part of its file's name.
    type: str
    required: true
  token:
    description: What this run calls its files, so that no old one is taken for a new one.
    type: str
    required: true
  uid:
    description: User, and group, to write and read as, where the login is root's.
    type: int
    default: 0
  hosts:
    description: Whose files to read.
    type: list
    elements: str
    default: []
  seconds:
    description: How long to look for them. A client of NFS may see a new file late.
    type: float
    default: 10
author: pdinfra contributors (@pdinfra)
"""

EXAMPLES = r"""
- name: Write
  pd_shared_path: {folder: /srv/kv, action: write, host: node1, token: 3fa2}

- name: Read what all have written
  pd_shared_path: {folder: /srv/kv, action: read, host: node1, token: 3fa2, hosts: [node1, node2]}

- name: Remove the own file
  pd_shared_path: {folder: /srv/kv, action: remove, host: node1, token: 3fa2}
"""

RETURN = r"""
written:
  description:
    - Whether the folder is C(there), why nothing could be written (C(error), empty if it could),
      the C(mount) point and C(kind) of its file system, its C(free) bytes and its C(size).
  type: dict
  returned: for write
seen:
  description: By host, empty where its file was read, or in words why not.
  type: dict
  returned: for read
"""

PAUSE = 0.2
"""Seconds between two looks for files that are not there yet."""
MOUNTS = "/proc/self/mountinfo"


@contextmanager
def user(uid: int) -> Iterator[None]:
    """Be another user, with its own group only; whoever is not root stays who it is."""
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def name(folder: str, host: str, token: str) -> str:
    """Return the path of a host's file."""
    return os.path.join(folder, ".pdinfra-%s-%s" % (host, token))


def text(host: str, token: str) -> bytes:
    """Return what is in a host's file."""
    return ("%s %s\n" % (host, token)).encode()


def write(folder: str, host: str, token: str, uid: int) -> dict[str, Any]:
    """Write this host's file; return what came of it, and about the file system."""
    there = os.path.isdir(folder)
    found: dict[str, Any] = {"there": there, "error": ""}
    try:
        with user(uid):
            put(name(folder, host, token), text(host, token))
    except OSError as error:
        found["error"] = error.strerror or str(error)
    return {**found, **file_system(folder)} if there else found


def put(path: str, content: bytes) -> None:
    """Write a new file that others can read, onto the disk. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_system(folder: str) -> dict[str, Any]:
    """Return mount point, kind, free bytes and size of the file system that has a folder."""
    with open(MOUNTS, encoding="utf-8", errors="replace") as table:
        mount, kind = mounted(os.path.realpath(folder), table.read())
    state = os.statvfs(folder)
    return {
        "mount": mount,
        "kind": kind,
        "free": state.f_bavail * state.f_frsize,
        "size": state.f_blocks * state.f_frsize,
    }


def mounted(path: str, table: str) -> tuple[str, str]:
    """Return the mount point above a path, and its kind, by a mountinfo; the last one counts."""
    best = ("/", "")
    for line in table.splitlines():
        own, _, other = line.partition(" - ")
        point = own.split()[4].replace("\\040", " ")
        above = path == point or path.startswith(point.rstrip("/") + "/")
        if above and len(point) >= len(best[0]):
            best = (point, other.split()[0])
    return best


def read(folder: str, hosts: list[str], token: str, uid: int, seconds: float) -> dict[str, str]:
    """Return of each host why its file was not read, empty where it was; wait for what is late."""
    until = time.monotonic() + seconds
    seen = dict.fromkeys(hosts, "not there")
    while True:
        with user(uid):
            seen = {host: why and look(folder, host, token) for host, why in seen.items()}
        if not any(seen.values()) or time.monotonic() > until:
            return seen
        time.sleep(PAUSE)


def look(folder: str, host: str, token: str) -> str:
    """Read one file; return why that was not possible, empty if it was."""
    try:
        # By its name: a listing of the folder may be an old one, from a client's cache.
        with open(name(folder, host, token), "rb") as handle:
            return "" if handle.read() == text(host, token) else "not what was written"
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return error.strerror or str(error)


def remove(folder: str, host: str, token: str, uid: int) -> None:
    """Remove this host's file; one that was never written is no fault."""
    try:
        with user(uid):
            os.unlink(name(folder, host, token))
    except OSError:
        return


def main() -> None:
    """Do the one thing that is asked for."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "str", "required": True},
            "action": {"type": "str", "choices": ["write", "read", "remove"], "required": True},
            "host": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": False},
            "uid": {"type": "int", "default": 0},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "seconds": {"type": "float", "default": 10},
        },
    )
    wanted = module.params
    folder, host, token, uid = (wanted[key] for key in ("folder", "host", "token", "uid"))
    if wanted["action"] == "write":
        module.exit_json(changed=False, written=write(folder, host, token, uid))
    if wanted["action"] == "read":
        seen = read(folder, wanted["hosts"], token, uid, wanted["seconds"])
        module.exit_json(changed=False, seen=seen)
    remove(folder, host, token, uid)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
