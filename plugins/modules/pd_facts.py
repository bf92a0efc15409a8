#!/usr/bin/python
# Copyright: pdinfra contributors. Licence: Apache-2.0
"""Collect, in one round trip, what pdinfra needs to know of a host."""

from __future__ import annotations

import array
import fcntl
import glob
import http.client
import itertools
import json
import os
import re
import shutil
import socket
import struct
import threading
import time
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils import pd_ascend
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pd_facts
short_description: Collect what one host looks like now
description:
  - Collects raw observations (files, Docker's JSON, listening sockets). Changes nothing.
  - What it brings is read by C(pdinfra.reading) on the controller.
  - Uses Python's standard library only.
options:
  service:
    description: Name of the service whose containers are inspected.
    type: str
    required: true
  models:
    description: Model directories to list.
    type: list
    elements: str
    default: []
  ports:
    description: TCP ports whose listening process is looked up.
    type: list
    elements: int
    default: []
  archives:
    description: Files to look for.
    type: list
    elements: str
    default: []
  names:
    description: Host names to resolve, besides the host's own.
    type: list
    elements: str
    default: []
  asked_at:
    description:
      - The controller's clock when it asked, seconds since the epoch.
      - Comes back as it is, so that a slow connection is not taken for a wrong clock.
    type: float
    default: 0
  accelerator:
    description: What the host's instances compute on; an Ascend host's tools are asked as well.
    type: str
    choices: [cpu, nvidia, ascend]
    default: cpu
  devices:
    description: Physical ids of the devices that the host's instances own.
    type: list
    elements: int
    default: []
  mounts:
    description: Files and directories of the driver that the containers mount.
    type: list
    elements: str
    default: []
  router:
    description: URL of the service's router on this host, to be asked for its members.
    type: str
    default: ""
  serve:
    description: URL of Ray's dashboard on this host, to be asked for Ray Serve's applications.
    type: str
    default: ""
  certificates:
    description: Certificates to read.
    type: list
    elements: str
    default: []
  notes:
    description: Small files to read, that containers write.
    type: list
    elements: str
    default: []
  rank_tables:
    description: Folder with folders of rank tables, to be read whole. Empty, none is read.
    type: str
    default: ""
  log_lines:
    description: Last lines of log to bring for each container that is not healthy.
    type: int
    default: 0
  settle:
    description:
      - Names of instances to wait for, at most C(settle_seconds).
      - Ends as soon as all are healthy, or one of them stopped or turned unhealthy.
    type: list
    elements: str
    default: []
  settle_seconds:
    description: Longest wait of one call, in seconds; call again to wait longer.
    type: int
    default: 10
  containers_only:
    description: Look at the service's containers only (and what Ray Serve has), for waiting.
    type: bool
    default: false
author: pdinfra contributors (@pdinfra)
"""

EXAMPLES = r"""
- name: Observe the host
  pd_facts:
    service: pd
    models: [/srv/models/qwen]
    ports: [8000, 8100]
  register: observed
"""

RETURN = r"""
raw:
  description: Raw observations, see pdinfra.reading for their meaning.
  type: dict
  returned: always
"""

SOCKET = "/var/run/docker.sock"
FILES = (
    "/etc/os-release",
    "/etc/hosts",
    "/etc/sysctl.d/90-pdinfra.conf",
    "/etc/ufw/ufw.conf",
    "/proc/meminfo",
    "/proc/1/comm",
    "/proc/net/if_inet6",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/ip_local_reserved_ports",
    "/usr/local/Ascend/driver/version.info",
    "/usr/local/Ascend/firmware/version.info",
    "/run/pdinfra/ascend-reboot",
)
SOCKETS = ("/proc/net/tcp", "/proc/net/tcp6")
KERNEL_TABLES = {**dict.fromkeys(SOCKETS, (3, "0A")), "/proc/net/route": (1, "00000000")}
"""Of these only the rows with this value in a column are brought: what listens, default routes.

A busy host has any number of connections, and ansible-runner empties a result of more than 700,000
characters (MAX_EVENT_RES).
"""
DISKS = ("/", "/var", "/var/lib", "/var/lib/docker", "/var/cache")
INFO = ("DockerRootDir", "HttpProxy", "HttpsProxy", "NoProxy")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
DAEMONS = ("chronyd", "ntpd", "systemd-timesyn", "ptp4l", "phc2sys", "firewalld")
"""As in /proc/PID/comm, which holds 15 characters."""
AT_BOOT = "/etc/systemd/system/multi-user.target.wants/docker.service"
"""What `systemctl enable docker` makes."""
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
CHUNK = 1 << 16
INDEX_BYTES = 64 << 20
LINE = 1000
"""Characters of a line of log that are brought."""
RESOLVE_SECONDS = 3.0
SIOCGIFCONF = 0x8912
IFREQ_BYTES = 40
LABELS = "pdinfra."
MANIFEST = ".pdinfra-model.json"
MODEL_TEXTS = ("config.json", MANIFEST)
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=index,name,driver_version,memory.total,memory.used,uuid",
    "--format=csv,noheader,nounits",
)


class DockerConnection(http.client.HTTPConnection):
    """HTTP over Docker's Unix socket."""

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def docker(path: str) -> bytes:
    """GET a path of Docker's API; return the body's bytes. Raises OSError."""
    connection = DockerConnection("docker", timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status >= 400:
        raise OSError("Docker answered %d to %s: %r" % (response.status, path, body[:200]))
    return body


def docker_json(path: str) -> Any:
    """GET a path of Docker's API as JSON."""
    return json.loads(docker(path))


def read_file(path: str, limit: int = 8 << 20) -> str | None:
    """Return a file's text, or None where there is none to read."""
    try:
        with open(path, "rb") as handle:
            # The kernel wants memory for as much as is asked of some of its files, and refuses.
            parts = iter(lambda: handle.read(CHUNK), b"")
            text = b"".join(itertools.islice(parts, limit // CHUNK))
            return text.decode("utf-8", "replace")
    except OSError:
        return None


def kernel_table(path: str, column: int, value: str) -> str | None:
    """Return a table's head and the rows with this value, or None where there is none to read."""
    try:
        with open(path, encoding="ascii", errors="replace") as rows:
            head = next(rows, "")
            return head + "".join(row for row in rows if row.split()[column] == value)
    except OSError:
        return None


def log_tail(container: str, lines: int) -> list[str]:
    """Return a container's last log lines (stdout and stderr, Docker's frames taken off)."""
    data = docker("/containers/%s/logs?stdout=1&stderr=1&tail=%d" % (container, lines))
    text = b""
    while len(data) >= 8 and data[0] in (0, 1, 2):
        size = struct.unpack(">I", data[4:8])[0]
        text += data[8 : 8 + size]
        data = data[8 + size :]
    last = (text or data).decode("utf-8", "replace").splitlines()[-lines:]
    return [line[:LINE] for line in last]


def containers(service: str, log_lines: int) -> list[dict[str, Any]]:
    """Return the inspect documents of the service's containers, with the tail of the unwell."""
    result = []
    for row in rows(service):
        try:
            inspect = docker_json("/containers/%s/json" % row["Id"])
            healthy = inspect["State"].get("Health", {}).get("Status") == "healthy"
            if log_lines and not healthy:
                inspect["pdinfra_log"] = log_tail(row["Id"], log_lines)
        except OSError:
            # It went away between the list and the look: then it is not there.
            continue
        result.append(inspect)
    return result


def settle(service: str, names: set[str], seconds: int) -> None:
    """Wait until the named instances are healthy, one is lost, or the time is over."""
    limit = time.monotonic() + seconds
    while names and time.monotonic() < limit:
        try:
            states = container_states(service)
        except OSError:
            return
        well = {name for name, status in states.items() if "(healthy)" in status}
        coming = {name for name, status in states.items() if "(health: starting)" in status}
        if names <= well or names - well - coming:
            return
        time.sleep(0.5)


def container_states(service: str) -> dict[str, str]:
    """Return Docker's status lines by instance, such as ``Up 5 seconds (healthy)``."""
    return {row["Labels"].get("pdinfra.instance", ""): row["Status"] for row in rows(service)}


def rows(service: str) -> list[dict[str, Any]]:
    """Return Docker's short list of the service's containers."""
    label = json.dumps({"label": ["pdinfra.service=%s" % service]})
    query = urllib.parse.urlencode({"all": "1", "filters": label})
    listed: list[dict[str, Any]] = docker_json("/containers/json?" + query)
    return listed


def engine(service: str, log_lines: int, containers_only: bool) -> dict[str, Any]:
    """Return Docker's own account of itself, or why there is none."""
    found: dict[str, Any] = {"error": None, "at_boot": os.path.exists(AT_BOOT)}
    try:
        found["containers"] = containers(service, log_lines)
        if not containers_only:
            found["version"] = docker_json("/version")
            info = docker_json("/info")
            found["info"] = {key: no_password(info.get(key) or "") for key in INFO}
            found["info"]["Runtimes"] = sorted(info.get("Runtimes") or {})
            found["images"] = [
                {key: image.get(key) for key in ("Id", "RepoTags", "RepoDigests")}
                for image in docker_json("/images/json")
                # Leftovers of builds, which have no name to be asked for and may be thousands.
                if image.get("RepoTags") or image.get("RepoDigests")
            ]
    except PermissionError as error:
        found["error"] = {"kind": "denied", "text": str(error)}
    except (FileNotFoundError, ConnectionRefusedError) as error:
        kind = "stopped" if shutil.which("dockerd") else "absent"
        found["error"] = {"kind": kind, "text": str(error)}
    except (OSError, ValueError) as error:
        found["error"] = {"kind": "stopped", "text": str(error)}
    return found


def claims() -> list[dict[str, Any]]:
    """Return what every running container, whosever it is, was given of the host's devices."""
    try:
        running = docker_json("/containers/json")
    except (OSError, ValueError):
        return []
    return [claim for row in running for claim in container_claims(row["Id"])]


def container_claims(container: str) -> list[dict[str, Any]]:
    """Return one container's devices; nothing if it went away meanwhile."""
    try:
        inspect = docker_json("/containers/%s/json" % container)
    except (OSError, ValueError):
        return []
    host, config = inspect["HostConfig"], inspect["Config"]
    env = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    claim = {
        "id": container,
        "name": inspect["Name"],
        "labels": {k: v for k, v in (config.get("Labels") or {}).items() if k.startswith(LABELS)},
        "devices": [device["PathOnHost"] for device in host.get("Devices") or []],
        # Ascend's own Docker runtime gives devices by this variable instead.
        "visible": env.get("ASCEND_VISIBLE_DEVICES", ""),
        "privileged": bool(host.get("Privileged")),
    }
    return [claim]


def model(path: str) -> dict[str, Any]:
    """Return the names and sizes of a model directory's files, and the small texts among them."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return {"error": error.strerror}
    files = {}
    for name in [*names, *delivered(path)]:
        try:
            files[name] = os.stat(os.path.join(path, name)).st_size
        except OSError:
            # A dangling link counts as not there.
            continue
    texts = {name: read_file(os.path.join(path, name)) for name in MODEL_TEXTS if name in files}
    texts.update({name: index(os.path.join(path, name)) for name in INDEXES if name in files})
    return {"error": None, "files": files, "texts": texts}


def index(path: str) -> str | None:
    """Return an index of weights with one tensor of each file: large models have 100,000 tensors.

    What is no such index comes as it is.
    """
    text = read_file(path, INDEX_BYTES)
    try:
        files = {str(file): tensor for tensor, file in json.loads(text or "")["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return text and text[:CHUNK]
    return json.dumps({"weight_map": {tensor: file for file, tensor in files.items()}})


def delivered(path: str) -> list[str]:
    """Return the files in folders below a model directory that its manifest names."""
    try:
        listed = json.loads(read_file(os.path.join(path, MANIFEST)) or "{}")
        return [row["path"] for row in listed["files"] if "/" in row["path"]]
    except (ValueError, KeyError, TypeError):
        return []


def listeners(ports: set[int]) -> dict[str, dict[str, Any]]:
    """Return the listening sockets' inodes by port, with the process where it can be seen."""
    inodes = {}
    for table in SOCKETS:
        for line in (kernel_table(table, *KERNEL_TABLES[table]) or "").splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if port in ports:
                inodes["socket:[%s]" % fields[9]] = port
    result: dict[str, dict[str, Any]] = {}
    if not inodes:
        return result
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target in inodes:
            pid = link.split("/")[2]
            result[str(inodes[target])] = {
                "pid": int(pid),
                "command": read_file("/proc/%s/comm" % pid),
                "cgroup": read_file("/proc/%s/cgroup" % pid),
            }
    return result


def resolve(names: list[str]) -> dict[str, list[str] | None]:
    """Return each name's addresses; none where it has none, None where no answer came in time."""
    found: dict[str, list[str] | None] = dict.fromkeys(names)

    def ask(name: str) -> None:
        try:
            rows = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
        except (OSError, UnicodeError):
            found[name] = []
            return
        found[name] = sorted({str(row[4][0]) for row in rows})

    # A name server that does not answer takes its time; all names wait together, and not for long.
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    limit = time.monotonic() + RESOLVE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, limit - time.monotonic()))
    return dict(found)


def addresses() -> list[list[str]]:
    """Return every interface's IPv4 addresses as [interface, address]."""
    entries = 64
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        while True:
            buffer = array.array("B", bytes(entries * IFREQ_BYTES))
            asked = struct.pack("iL", len(buffer), buffer.buffer_info()[0])
            used = struct.unpack("iL", fcntl.ioctl(probe.fileno(), SIOCGIFCONF, asked))[0]
            if used < len(buffer):
                break
            entries *= 2
    rows = [buffer[at : at + IFREQ_BYTES].tobytes() for at in range(0, used, IFREQ_BYTES)]
    return [[row[:16].split(b"\0")[0].decode(), socket.inet_ntoa(row[20:24])] for row in rows]


def proxies() -> dict[str, dict[str, str]]:
    """Return the proxy variables of this login and of /etc/environment, without passwords."""
    lines = (read_file("/etc/environment") or "").splitlines()
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines)
    written = {name.strip().lower(): value.strip("\"' ") for name, _, value in pairs}
    login = {name.lower(): value for name, value in os.environ.items()}
    return {
        where: {name: no_password(found[name]) for name in PROXIES if found.get(name)}
        for where, found in (("environment", login), ("/etc/environment", written))
    }


def no_password(url: str) -> str:
    """Take user and password out of a URL."""
    return re.sub(r"//[^@/]*@", "//", url)


def daemons() -> list[str]:
    """Return which of the daemons that matter are running."""
    names = {(read_file(path) or "").strip() for path in glob.iglob("/proc/[0-9]*/comm")}
    return sorted(names & set(DAEMONS))


def rank_tables(folder: str) -> dict[str, dict[str, Any]]:
    """Return every table in the folders below, with what tells who can read it."""
    found = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*", "*.json"))):
        text = read_file(path)
        try:
            stat = os.stat(path)
        except OSError:
            continue
        if text is None:
            continue
        found[path] = {
            "text": text,
            "mode": stat.st_mode & 0o7777,
            "uid": stat.st_uid,
            "gid": stat.st_gid,
            "changed": stat.st_mtime,
        }
    return found


def free_inodes(path: str) -> int | None:
    """Return how many files can be made below a path, or None where there is no such limit."""
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    return stat.f_favail if stat.f_files else None


def fetch(url: str) -> str | None:
    """GET a URL of this host; return the text, or None where nothing answers with 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException):
        return None


def nvidia() -> dict[str, Any]:
    """Return what NVIDIA's tools say of the driver and its GPUs, and where the toolkit is."""
    return {"smi": pd_ascend.run(*NVIDIA_SMI), "toolkit": shutil.which("nvidia-container-runtime")}


def free(path: str) -> int | None:
    """Return the bytes that can be written below a path, or None."""
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize


def main() -> None:
    """Collect and return."""
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "models": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
            "archives": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "asked_at": {"type": "float", "default": 0},
            "accelerator": {
                "type": "str",
                "choices": ["cpu", "nvidia", "ascend"],
                "default": "cpu",
            },
            "devices": {"type": "list", "elements": "int", "default": []},
            "mounts": {"type": "list", "elements": "str", "default": []},
            "router": {"type": "str", "default": ""},
            "serve": {"type": "str", "default": ""},
            "certificates": {"type": "list", "elements": "str", "default": []},
            "notes": {"type": "list", "elements": "str", "default": []},
            "rank_tables": {"type": "str", "default": ""},
            "log_lines": {"type": "int", "default": 0},
            "settle": {"type": "list", "elements": "str", "default": []},
            "settle_seconds": {"type": "int", "default": 10},
            "containers_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    now = time.time()
    settle(wanted["service"], set(wanted["settle"]), wanted["settle_seconds"])
    raw: dict[str, Any] = {
        "docker": engine(wanted["service"], wanted["log_lines"], wanted["containers_only"])
    }
    if wanted["serve"]:
        raw["serve"] = fetch(wanted["serve"] + "/api/serve/applications/")
    if not wanted["containers_only"]:
        docker_root = raw["docker"].get("info", {}).get("DockerRootDir", "")
        hostname = socket.gethostname()
        disks = [path for path in (*DISKS, docker_root) if path]
        raw.update(
            hostname=hostname,
            time=now,
            asked_at=wanted["asked_at"],
            files={path: read_file(path) for path in FILES}
            | {path: kernel_table(path, *rows) for path, rows in KERNEL_TABLES.items()},
            disk_free={path: free(path) for path in disks},
            inodes_free={path: free_inodes(path) for path in disks},
            archives=[path for path in wanted["archives"] if os.path.isfile(path)],
            resolved=resolve(sorted({hostname, *wanted["names"]})),
            addresses=addresses(),
            proxies=proxies(),
            daemons=daemons(),
            in_container=any(os.path.exists(path) for path in CONTAINER_MARKS),
            models={path: model(path) for path in wanted["models"]},
            processes=listeners(set(wanted["ports"])),
            certificates={path: read_file(path) for path in wanted["certificates"]},
            notes={path: read_file(path, CHUNK) for path in wanted["notes"]},
            rank_tables=rank_tables(wanted["rank_tables"]) if wanted["rank_tables"] else {},
            router=fetch(wanted["router"] + "/pdinfra/members") if wanted["router"] else None,
        )
        if wanted["accelerator"] == "ascend" and wanted["devices"]:
            raw["ascend"] = pd_ascend.collect(wanted["devices"], wanted["mounts"])
            raw["ascend"]["claims"] = claims()
        if wanted["accelerator"] == "nvidia":
            raw["nvidia"] = nvidia()
    module.exit_json(changed=False, raw=raw)


if __name__ == "__main__":
    main()
