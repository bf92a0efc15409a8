#!/usr/bin/python
# Copyright: pdinfra contributors. Licence: Apache-2.0
"""Move images between a host's Docker engine and registries, and bring how far it is."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import socket
import time
import urllib.parse
from typing import Any, Callable, Dict, Iterator, List, Optional

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pd_registry
short_description: Pull images, push images, or ask a registry for them
description:
  - Speaks with Docker's API. The engine knows its registries' certificates, and takes loopback
    registries without one; logins are those of C(docker login) on this machine.
  - Pull and push run in a process of their own, which outlives the call. A call watches it for
    C(watch_seconds) and returns how far it is; call again until pdinfra's filter says that it is
    done. (M(community.docker.docker_image_pull) waits in silence until the end.)
  - An interrupted transfer is started again by the next call; the engine keeps complete layers.
  - Collects raw observations only; what they mean is read by C(pdinfra.reading) on the controller.
  - Uses Python's standard library only.
options:
  action:
    description: C(look) asks the registry, C(pull) and C(push) transfer.
    type: str
    choices: [look, pull, push]
    required: true
  images:
    description:
      - The images. C(ref) is the name with tag on this machine, C(remote) the one in the registry,
        with tag or digest (default C(ref)). Other keys are ignored.
      - A pulled image is tagged with C(ref), a pushed one is tagged with C(remote) first.
    type: list
    elements: dict
    required: true
  watch_seconds:
    description: Longest time of one call.
    type: int
    default: 10
  silence_seconds:
    description: A transfer without any progress for so long is given up.
    type: int
    default: 1800
author: pdinfra contributors (@pdinfra)
"""

EXAMPLES = r"""
- name: Pull the image
  pd_registry:
    action: pull
    images:
      - ref: quay.io/ascend/vllm-ascend:v0.10.0rc1-openeuler
        remote: m.daocloud.io/quay.io/ascend/vllm-ascend:v0.10.0rc1-openeuler
  register: pulled
  until: (pulled.raw | pdinfra_transfer).done
  retries: 360
  delay: 0
"""

RETURN = r"""
raw:
  description: Raw observations, see pdinfra.reading.registry for their meaning.
  type: dict
  returned: always
"""

SOCKET = "/var/run/docker.sock"
HUB_LOGIN = "https://index.docker.io/v1/"
ASK_SECONDS = 60
FRESH_SECONDS = 120
"""An outcome that nobody fetched for so long belongs to a run that was given up."""
LOOK_SECONDS = 0.5

State = Dict[str, Any]


class DockerConnection(http.client.HTTPConnection):
    """HTTP over Docker's Unix socket."""

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def docker(
    method: str, path: str, remote: str = "", seconds: int = ASK_SECONDS
) -> http.client.HTTPResponse:
    """Send a request, with the login for ``remote``. Raises OSError with Docker's own words."""
    connection = DockerConnection("docker", timeout=seconds)
    headers = {"X-Registry-Auth": registry_auth(remote)} if remote else {}
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    if response.status < 400:
        return response
    body = response.read().decode("utf-8", "replace")
    try:
        raise OSError(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        raise OSError("Docker answered %d: %s" % (response.status, body[:200])) from None


def registry_auth(remote: str) -> str:
    """Return Docker's header with this machine's login for the registry of ``remote``."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    first = remote.partition("/")[0]
    server = first if "." in first or ":" in first or first == "localhost" else HUB_LOGIN
    try:
        with open(os.path.join(folder, "config.json")) as handle:
            entry = json.load(handle).get("auths", {}).get(server, {})
        user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except (OSError, ValueError, AttributeError):
        entry, user, password = {}, "", ""
    login = {"serveraddress": server}
    if entry.get("identitytoken"):
        login["identitytoken"] = entry["identitytoken"]
    elif user:
        login.update(username=user, password=password)
    return base64.urlsafe_b64encode(json.dumps(login).encode()).decode()


def split(name: str) -> List[str]:
    """Return repository and tag, or repository and digest."""
    if "@" in name:
        return name.split("@", 1)
    repository, colon, tag = name.rpartition(":")
    return [repository, tag] if colon and "/" not in tag else [name, "latest"]


def quoted(name: str) -> str:
    """Return a name as part of a path."""
    return urllib.parse.quote(name, safe="/:@")


def tag(image: str, name: str) -> None:
    """Give an image one more name. Raises OSError."""
    repository, label = split(name)
    query = urllib.parse.urlencode({"repo": repository, "tag": label})
    docker("POST", "/images/%s/tag?%s" % (quoted(image), query)).read()


def look(remote: str) -> Optional[str]:
    """Ask the registry for an image; return None if it has it, else the error's text."""
    try:
        docker("GET", "/distribution/%s/json" % quoted(remote), remote).read()
    except (OSError, http.client.HTTPException) as error:
        return told(error)
    return None


def pull(image: State, silence: int) -> Iterator[State]:
    """Pull one image and give it its own name; yield Docker's lines. Raises OSError."""
    repository, label = split(image["remote"])
    query = urllib.parse.urlencode({"fromImage": repository, "tag": label})
    for line in docker("POST", "/images/create?" + query, image["remote"], silence):
        yield json.loads(line)
    if image["remote"] != image["ref"]:
        tag(image["remote"], image["ref"])


def push(image: State, silence: int) -> Iterator[State]:
    """Push one image under its name in the registry; yield Docker's lines. Raises OSError."""
    tag(image["ref"], image["remote"])
    repository, label = split(image["remote"])
    path = "/images/%s/push?%s" % (quoted(repository), urllib.parse.urlencode({"tag": label}))
    for line in docker("POST", path, image["remote"], silence):
        yield json.loads(line)


def take(image: State, line: State) -> None:
    """Keep of one line what the next look needs. Raises OSError for a line that is an error."""
    if "error" in line:
        raise OSError(line["error"])
    status, layer = line.get("status", ""), line.get("id")
    if not layer or status.startswith("Pulling from"):
        return
    # Bytes of unpacking would count the same layer twice.
    progress = line.get("progressDetail") or {}
    seen = image["layers"].setdefault(layer, {"status": "", "current": 0, "total": 0})
    seen["status"] = status
    if status in ("Downloading", "Pushing"):
        seen["current"] = progress.get("current", seen["current"])
        seen["total"] = progress.get("total", seen["total"])


def transfer(
    action: str, images: List[Dict[str, str]], silence: int, tell: Callable[[State], None]
) -> State:
    """Move the images, one after the other; ``tell`` is handed the state as it changes."""
    state: State = {
        "action": action,
        "done": False,
        "images": [dict(image, layers={}, done=False, error=None) for image in images],
    }
    for image in state["images"]:
        try:
            for line in (pull if action == "pull" else push)(image, silence):
                take(image, line)
                tell(state)
            image["done"] = True
        except (OSError, ValueError, http.client.HTTPException) as error:
            image["error"] = told(error)
    state["done"] = True
    return state


def told(error: Exception) -> str:
    """Return an error's words."""
    return str(error) or type(error).__name__


class Desk:
    """Where worker and callers of one transfer meet: a file with its state, and a lock.

    The worker holds the lock as long as it lives, however it ends.
    """

    def __init__(self, folder: str, key: str) -> None:
        """Use files named ``key`` in ``folder``, which only this user can read."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.path = os.path.join(folder, key + ".json")
        self._lock_path = os.path.join(folder, key + ".lock")

    def lock(self) -> Optional[int]:
        """Return the lock's file descriptor, to be closed, or None while a worker has it."""
        handle = os.open(self._lock_path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    def write(self, state: State) -> None:
        """Replace the state in one step."""
        with open(self.path + ".new", "w") as handle:
            json.dump(state, handle)
        os.replace(self.path + ".new", self.path)

    def read(self) -> State:
        """Return the state; an empty one where there is none that is fresh."""
        try:
            with open(self.path) as handle:
                state: State = json.load(handle)
            fresh = time.time() - os.stat(self.path).st_mtime < FRESH_SECONDS
        except FileNotFoundError:
            return {}
        return state if fresh or not state["done"] else {}

    def fetch(self) -> State:
        """Return the state; an outcome is handed out once."""
        state = self.read()
        if state.get("done"):
            self.clear()
        return state

    def clear(self) -> None:
        """Remove the state."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def detach(work: Callable[[], None]) -> None:
    """Run ``work`` in a process that outlives this one and its SSH connection."""
    if os.fork():
        return
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        work()
    finally:
        os._exit(0)


def watch(desk: Desk, seconds: int, start: Callable[[], State]) -> State:
    """Return the transfer's state when it is done or the time is over; start it if none runs."""
    limit = time.monotonic() + seconds
    lock = desk.lock()
    if lock is not None:
        try:
            if desk.read().get("done"):
                return desk.fetch()
            desk.clear()
            detach(lambda: desk.write(start()))
        finally:
            # The worker has its own hold on it.
            os.close(lock)
    while time.monotonic() < limit:
        time.sleep(LOOK_SECONDS)
        if desk.read().get("done"):
            break
        lock = desk.lock()
        if lock is not None:
            # The worker is gone, with its work done just now or killed: the next call starts anew.
            os.close(lock)
            break
    return desk.fetch()


def state_folder() -> str:
    """Return where this user keeps states: for root on a file system that a reboot empties."""
    return "/run/pdinfra" if os.geteuid() == 0 else os.path.expanduser("~/.cache/pdinfra")


def main() -> None:
    """Look, or start or watch a transfer."""
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "choices": ["look", "pull", "push"], "required": True},
            "images": {"type": "list", "elements": "dict", "required": True},
            "watch_seconds": {"type": "int", "default": 10},
            "silence_seconds": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    images = [{"ref": i["ref"], "remote": i.get("remote") or i["ref"]} for i in wanted["images"]]
    if wanted["action"] == "look":
        answers = [dict(image, error=look(image["remote"])) for image in images]
        module.exit_json(changed=False, raw={"action": "look", "images": answers})
    if module.check_mode:
        module.exit_json(changed=True, raw={"action": wanted["action"], "images": [], "done": True})
    key = json.dumps([wanted["action"], images], sort_keys=True).encode()
    desk = Desk(state_folder(), "images-" + hashlib.sha256(key).hexdigest()[:16])
    told_at = [0.0]

    def tell(state: State) -> None:
        if time.monotonic() - told_at[0] >= LOOK_SECONDS:
            told_at[0] = time.monotonic()
            desk.write(state)

    def start() -> State:
        return transfer(wanted["action"], images, wanted["silence_seconds"], tell)

    state = watch(desk, wanted["watch_seconds"], start)
    pending = {"action": wanted["action"], "images": [], "done": False}
    module.exit_json(changed=bool(state.get("done")), raw=state or pending)


if __name__ == "__main__":
    main()
