#!/usr/bin/python
# Copyright: pdinfra contributors. Licence: Apache-2.0
"""Bring a model onto a host: from a hub, or from another host; whole and verified, or not at all.

Why not huggingface_hub and modelscope: they would have to be installed on every host, where pip is
often out of reach (no index, PEP 668), in two versions that fit the host's Python. What is needed
of them is a listing with checksums and a GET with Range, the same for both hubs and for a host.

Read from public code, not tried against the public hubs:

- Hugging Face (huggingface_hub: hf_api.py ``list_repo_tree`` and ``RepoFile``, file_download.py
  ``hf_hub_url``): ``GET {endpoint}/api/models/{repo}/tree/{revision}?recursive=true`` lists
  ``type``, ``path``, ``size``, ``oid`` (git's sha1) and for large files ``lfs.oid`` (sha256), in
  pages joined by a ``Link`` header; ``{endpoint}/{repo}/resolve/{revision}/{file}`` is the file.
- ModelScope (modelscope/hub: constants.py ``FILE_HASH``, api.py, file_download.py):
  ``GET {endpoint}/api/v1/models/{repo}/repo/files?Revision=&Recursive=True`` lists
  ``Data.Files[]`` with ``Path``, ``Size``, ``Sha256``, ``Type`` (``tree`` is a folder);
  ``.../repo?Revision=&FilePath=`` is the file. The token goes as a bearer and as a cookie.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import fnmatch
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Any, Callable, NamedTuple

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pd_model
short_description: Bring a model onto a host, verified
description:
  - Downloads a model's files from a hub or from another host (see M(pd_model_serve)) into
    C(<path>.partial), verifies each by checksum, writes a manifest and moves the directory into
    place. A delivery that was cut off goes on where it stopped.
  - The work is done by a process of its own that outlives the connection. A call waits for it at
    most O(wait_seconds) and says how far it is; call again until RV(done).
  - Uses Python's standard library only. Honours the proxies of the environment for hubs.
options:
  path:
    description: The model's directory.
    type: str
    required: true
  source:
    description: >-
      Where from. V(directory) takes stock of what is in O(path) and only writes the manifest.
    type: str
    choices: [huggingface, modelscope, host, directory]
    required: true
  repo:
    description: The model's repository on the hub; with the other sources, what it is known by.
    type: str
    required: true
  revision:
    description: Commit or tag; empty for what does not come from a hub.
    type: str
    default: ''
  endpoint:
    description: The hub's or the host's URL.
    type: str
    default: ''
  token:
    description: Token for the hub or the host.
    type: str
    default: ''
  files:
    description: Patterns of the files to get. Default is all but formats that vLLM does not need.
    type: list
    elements: str
    default: []
  sha256:
    description: File to sha256 that it must have, besides what the source says.
    type: dict
    default: {}
  wait_seconds:
    description: Longest wait of one call, in seconds.
    type: int
    default: 10
author: pdinfra contributors (@pdinfra)
"""

EXAMPLES = r"""
- name: Download the model
  pd_model:
    path: /srv/models/Qwen2.5-7B-Instruct/a09a35458c70
    source: huggingface
    repo: Qwen/Qwen2.5-7B-Instruct
    revision: a09a35458c702b33eeacc393d103063234e8bc28
    endpoint: https://huggingface.co
  register: fetched
  until: fetched.done | default(true)
  retries: 8640
  delay: 1
"""

RETURN = r"""
done:
  description: Whether the delivery has ended, well or not.
  type: bool
  returned: always
progress:
  description: How far it is, such as C(3.2 of 15.2 GiB, 180.0 MiB/s, 3 of 12 files).
  type: str
  returned: always
"""

MANIFEST = ".pdinfra-model.json"
STATE = ".pdinfra-state.json"
LOCK = ".pdinfra-lock"
OWN = (MANIFEST, STATE, LOCK)

PARALLEL = 4
CHUNK = 1 << 20
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as cut."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further attempt; attempts that brought something are not counted."""
LONGEST_PAUSE = 60.0
ROOM = 1 << 30
"""Bytes that must stay free on the disk besides the model."""
FRESH = 60.0
"""Seconds in which an outcome that nobody asked for yet is still news."""
OTHER_FORMATS = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx",
    "*.onnx_data",
    "*.gguf",
    "*.tflite",
    "original/*",
    "onnx/*",
    "openvino/*",
)
"""What vLLM does not read when there are safetensors (it takes these first)."""


class DeliveryError(Exception):
    """What ends a delivery: one line with thing, cause and fix."""


class CutOffError(Exception):
    """What a further attempt may mend. ``after``: seconds that the server asks to wait."""

    def __init__(self, cause: str, after: float = 0.0) -> None:
        """Keep the cause and the wait."""
        super().__init__(cause)
        self.after = after


class StoppedError(Exception):
    """Another file failed for good: leave off."""


class Entry(NamedTuple):
    """A file of the source's listing; ``algorithm`` is sha256 or git (sha1 of git's blob)."""

    path: str
    size: int
    algorithm: str
    digest: str


class Tally:
    """Counts bytes and files for all threads; ``stop`` ends them."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.stop = threading.Event()
        self.total = self.done = self.transferred = 0
        self.files = self.files_done = 0
        self.began = time.monotonic()
        self._lock = threading.Lock()

    def add(self, size: int, transferred: bool = False) -> None:
        """Count bytes (negative: they are to be got again) and whether they came just now."""
        with self._lock:
            self.done += size
            self.transferred += size if transferred else 0

    def finish(self) -> None:
        """Count a file that is whole and verified."""
        with self._lock:
            self.files_done += 1

    def text(self) -> str:
        """Return how far all is, for people."""
        rate = self.transferred / max(time.monotonic() - self.began, 0.001)
        return "%s of %s, %s/s, %d of %d files" % (
            size_text(self.done),
            size_text(self.total),
            size_text(rate),
            self.files_done,
            self.files,
        )


def size_text(size: float) -> str:
    """Return bytes as GiB or MiB."""
    if size >= 1 << 30:
        return "%.1f GiB" % (size / (1 << 30))
    return "%.1f MiB" % (size / (1 << 20))


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but takes no secret along to another host (a hub's storage refuses it)."""

    def redirect_request(self, req: Any, *rest: Any) -> Any:
        """Return the next request."""
        following = super().redirect_request(req, *rest)
        if following is not None and following.host != req.host:
            for header in ("Authorization", "Cookie"):
                following.remove_header(header)
        return following


class Source:
    """Where a model comes from: lists its files, and opens one from some byte on."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Keep what identifies the model, and the token."""
        self.endpoint = params["endpoint"].rstrip("/")
        self.repo = params["repo"]
        self.revision = params["revision"]
        self.headers = {"User-Agent": "pdinfra"}
        if params["token"]:
            self.headers.update(self.secrets(params["token"]))
        proxy = urllib.request.ProxyHandler(self.proxies())
        self._opener = urllib.request.build_opener(proxy, Redirects())

    def proxies(self) -> dict[str, str] | None:
        """Return the proxies to use; None: those of the environment."""
        return None

    def secrets(self, token: str) -> dict[str, str]:
        """Return the headers that carry the token."""
        return {"Authorization": "Bearer %s" % token}

    def listing(self) -> list[Entry]:
        """Return all files. Raises DeliveryError or CutOffError."""
        raise NotImplementedError

    def url(self, path: str) -> str:
        """Return a file's URL."""
        raise NotImplementedError

    def refusal(self, code: int) -> str:
        """Say what 401, 403 and 404 mean here."""
        if code == 404:
            return "not there; check pd_model_repo, pd_model_revision and pd_model_endpoint"
        return (
            "refused; it needs a token (pd_hub_token in Ansible Vault, or PD_HUB_TOKEN in the "
            "environment), one whose owner may read the model (accept its terms on its page)"
        )

    def open(self, url: str, offset: int = 0) -> Any:
        """GET a URL from a byte on. Raises DeliveryError, or CutOffError if it may work later."""
        headers = dict(self.headers)
        if offset:
            headers["Range"] = "bytes=%d-" % offset
        try:
            return self._opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403, 404):
                why = self.refusal(error.code)
                raise DeliveryError("%s: HTTP %d: %s" % (url, error.code, why)) from None
            if error.code in (408, 416, 429) or error.code >= 500:
                pause = error.headers.get("Retry-After", "")
                after = float(pause) if pause.isdigit() else 0.0
                raise CutOffError("HTTP %d" % error.code, after) from None
            raise DeliveryError("%s: HTTP %d %s" % (url, error.code, error.reason)) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                fix = "add the CA to this host's trust store"
                raise DeliveryError("%s: %s; %s" % (url, error.reason, fix)) from None
            raise CutOffError(str(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise CutOffError(cause(error)) from None

    def json(self, url: str) -> tuple[Any, Any]:
        """GET a JSON document; return it with the response's headers."""
        with self.open(url) as response:
            try:
                return json.loads(response.read()), response.headers
            except (OSError, http.client.HTTPException) as error:
                raise CutOffError(cause(error)) from None
            except ValueError:
                hint = "is this the endpoint of such a hub?"
                raise DeliveryError("%s: no JSON; %s" % (url, hint)) from None


class HuggingFace(Source):
    """The API of huggingface.co and its mirrors."""

    def listing(self) -> list[Entry]:
        """Return all files, page by page."""
        found = []
        url = "%s/api/models/%s/tree/%s?recursive=true" % (
            self.endpoint,
            self.repo,
            urllib.parse.quote(self.revision, safe=""),
        )
        while url:
            rows, headers = self.json(url)
            for row in rows:
                if row["type"] != "file":
                    continue
                large = row.get("lfs")
                kind, digest = ("sha256", large["oid"]) if large else ("git", row["oid"])
                found.append(Entry(row["path"], int(row["size"]), kind, digest))
            further = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link") or "")
            url = urllib.parse.urljoin(url, further.group(1)) if further else ""
        return found

    def url(self, path: str) -> str:
        """Return a file's URL."""
        revision = urllib.parse.quote(self.revision, safe="")
        name = urllib.parse.quote(path)
        return "%s/%s/resolve/%s/%s" % (self.endpoint, self.repo, revision, name)


class ModelScope(Source):
    """The API of modelscope.cn."""

    def secrets(self, token: str) -> dict[str, str]:
        """Return the headers that carry the token."""
        return {"Authorization": "Bearer %s" % token, "Cookie": "m_session_id=%s" % token}

    def _api(self, what: str, **query: str) -> str:
        """Return the URL of a call about this revision."""
        words = urllib.parse.urlencode(dict(query, Revision=self.revision))
        return "%s/api/v1/models/%s/%s?%s" % (self.endpoint, self.repo, what, words)

    def listing(self) -> list[Entry]:
        """Return all files."""
        url = self._api("repo/files", Recursive="True")
        answer, _ = self.json(url)
        if not answer.get("Success"):
            raise DeliveryError("%s: %s" % (url, answer.get("Message") or "refused without a word"))
        return [
            Entry(row["Path"], int(row["Size"]), "sha256", row.get("Sha256") or "")
            for row in answer["Data"]["Files"]
            if row["Type"] != "tree"
        ]

    def url(self, path: str) -> str:
        """Return a file's URL."""
        return self._api("repo", FilePath=path)


class Peer(Source):
    """Another host, where pd_model_serve hands out the model."""

    def proxies(self) -> dict[str, str] | None:
        """Return none: hosts of the service reach each other directly."""
        return {}

    def refusal(self, code: int) -> str:
        """Say what 401, 403 and 404 mean here."""
        return "another run serves another model there; wait until it has ended, then run again"

    def listing(self) -> list[Entry]:
        """Return what the host's manifest lists."""
        url = self.endpoint + "/manifest"
        told, _ = self.json(url)
        if (told["repo"], told["revision"]) != (self.repo, self.revision):
            raise DeliveryError("%s: it has %s at %s" % (url, told["repo"], told["revision"]))
        return [Entry(r["path"], int(r["size"]), "sha256", r["sha256"]) for r in told["files"]]

    def url(self, path: str) -> str:
        """Return a file's URL."""
        return "%s/files/%s" % (self.endpoint, urllib.parse.quote(path))


SOURCES = {"huggingface": HuggingFace, "modelscope": ModelScope, "host": Peer}


def cause(error: Exception) -> str:
    """Return an exception's text, or its kind if it has none."""
    return str(error) or type(error).__name__


def patiently(
    what: str, attempt: Callable[[], Any], brought: Callable[[], int], stop: threading.Event
) -> Any:
    """Repeat an attempt that is interrupted, until several in a row bring nothing.

    brought: how much is there so far. Raises DeliveryError when it gives up.
    """
    fruitless = 0
    while True:
        before = brought()
        try:
            return attempt()
        except CutOffError as error:
            fruitless = 1 if brought() > before else fruitless + 1
            if fruitless > len(PAUSES):
                raise DeliveryError(
                    "%s: %s, %d times in a row; run again when the network is well, it goes on "
                    "where it stopped" % (what, error, fruitless)
                ) from None
            if stop.wait(min(max(PAUSES[fruitless - 1], error.after), LONGEST_PAUSE)):
                raise StoppedError() from None


def select(entries: list[Entry], patterns: list[str]) -> list[Entry]:
    """Return the files to get: those that match, or all but the formats that vLLM skips."""
    if patterns:
        return [e for e in entries if any(fnmatch.fnmatch(e.path, p) for p in patterns)]
    wanted = [entry for entry in entries if not entry.path.startswith(".git")]
    if any(e.path.endswith(".safetensors") and "/" not in e.path for e in wanted):
        wanted = [e for e in wanted if not any(fnmatch.fnmatch(e.path, p) for p in OTHER_FORMATS)]
    return wanted


def pin(entries: list[Entry], pinned: dict[str, str]) -> list[Entry]:
    """Return the files with the checksums that the inventory asks for.

    Raises DeliveryError for one that the source contradicts, and for a file without any checksum.
    """
    listed = {entry.path: entry for entry in entries}
    problems = []
    for path in sorted(pinned.keys() - listed.keys()):
        problems.append("%s: in pd_model_sha256, but not among the files" % path)
    for path, entry in listed.items():
        parts = path.split("/")
        if os.path.isabs(path) or ".." in parts or parts[-1] in OWN:
            problems.append("%s: not a name that a model's file may have" % path)
        known = entry.digest if entry.algorithm == "sha256" else ""
        if path in pinned and known not in ("", pinned[path]):
            said = (path, entry.digest, pinned[path])
            problems.append("%s: the source has sha256 %s, pd_model_sha256 asks for %s" % said)
        if path not in pinned and not entry.digest:
            problems.append("%s: the source tells no checksum; add it to pd_model_sha256" % path)
    if problems:
        raise DeliveryError("\n".join(problems))
    return [
        Entry(e.path, e.size, "sha256", pinned[e.path]) if e.path in pinned else e for e in entries
    ]


def present(path: str) -> int:
    """Return a file's size, 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def checksum(path: str, algorithm: str) -> str:
    """Return a file's sha256, or git's sha1 of it."""
    total = hashlib.sha256() if algorithm == "sha256" else hashlib.sha1()
    if algorithm == "git":
        total.update(b"blob %d\0" % os.path.getsize(path))
    with open(path, "rb") as handle:
        for chunk in iter(lambda: handle.read(CHUNK), b""):
            total.update(chunk)
    return total.hexdigest()


def place(folder: str, entry: Entry) -> str:
    """Return where a file of the listing goes."""
    return os.path.join(folder, *entry.path.split("/"))


def need_room(folder: str, entries: list[Entry]) -> None:
    """Raise DeliveryError if the disk cannot hold what is still to come."""
    need = ROOM
    for entry in entries:
        target = place(folder, entry)
        need += max(entry.size - present(target) - present(target + ".partial"), 0)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise DeliveryError(
            "%s: %s needed, %s free; free some, or set pd_model_path to a folder on a larger disk"
            % (folder, size_text(need), size_text(free))
        )


def transfer(source: Source, entry: Entry, partial: str, tally: Tally) -> None:
    """Get what a partial file lacks. Raises DeliveryError, CutOffError or StoppedError."""
    offset = present(partial)
    if offset == entry.size:
        open(partial, "ab").close()
        return
    with source.open(source.url(entry.path), offset) as response:
        resumed = response.status == 206
        said = response.headers.get("Content-Range") or ""
        if resumed and not said.startswith("bytes %d-" % offset):
            raise DeliveryError("%s: asked from byte %d, got %r" % (entry.path, offset, said))
        if offset and not resumed:
            tally.add(-offset)
        with open(partial, "ab" if resumed else "wb") as handle:
            receive(response, handle, tally)
    got = present(partial)
    if got < entry.size:
        raise CutOffError("cut off after %d of %d bytes" % (got, entry.size))


def receive(response: Any, handle: IO[bytes], tally: Tally) -> None:
    """Write what comes. Raises CutOffError, or DeliveryError when the disk refuses."""
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise CutOffError(cause(error)) from None
        if not chunk:
            return
        try:
            handle.write(chunk)
        except OSError as error:
            said = "%s: %s; free space there" % (handle.name, error.strerror)
            raise DeliveryError(said) from None
        tally.add(len(chunk), transferred=True)
        if tally.stop.is_set():
            raise StoppedError()


def fetch(source: Source, entry: Entry, folder: str, tally: Tally) -> dict[str, Any]:
    """Bring one file and verify it; return its row of the manifest."""
    target = place(folder, entry)
    partial = target + ".partial"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    whole = os.path.isfile(target) and present(target) == entry.size
    if whole and checksum(target, entry.algorithm) == entry.digest:
        tally.add(entry.size)
        tally.finish()
        return row(entry.path, target)
    if present(partial) > entry.size:
        os.unlink(partial)
    tally.add(present(partial))
    patiently(
        entry.path,
        lambda: transfer(source, entry, partial, tally),
        lambda: present(partial),
        tally.stop,
    )
    found = checksum(partial, entry.algorithm)
    if present(partial) != entry.size or found != entry.digest:
        size = present(partial)
        os.unlink(partial)
        raise DeliveryError(
            "%s: wrong checksum: expected %s %s (%d bytes), found %s (%d bytes); it was removed, "
            "run again" % (entry.path, entry.algorithm, entry.digest, entry.size, found, size)
        )
    os.rename(partial, target)
    tally.finish()
    return row(entry.path, target)


def row(path: str, target: str) -> dict[str, Any]:
    """Return a file's row of the manifest."""
    size = os.path.getsize(target)
    return {"path": path, "size": size, "sha256": checksum(target, "sha256")}


def everything(
    jobs: list[Callable[[], dict[str, Any]]], tally: Tally, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Do all jobs, some at a time; return their rows.

    Raises DeliveryError with all that went wrong.
    """
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        running = {pool.submit(job) for job in jobs}
        futures = list(running)
        while running:
            ended, running = concurrent.futures.wait(running, timeout=0.5)
            if any(not future.cancelled() and future.exception() for future in ended):
                tally.stop.set()
                for future in running:
                    future.cancel()
            tell(tally.text())
    errors = [f.exception() for f in futures if not f.cancelled()]
    known = [str(error) for error in errors if isinstance(error, DeliveryError)]
    if known:
        raise DeliveryError("\n".join(known))
    for error in errors:
        if error is not None:
            raise error
    return [future.result() for future in futures]


def deliver(params: dict[str, Any], work: str, tell: Callable[[str], None]) -> None:
    """Bring the whole model into the work folder and put it into place."""
    source = SOURCES[params["source"]](params)
    tally = Tally()
    what = "%s at %s" % (source.repo, source.endpoint)
    listed = patiently(what, source.listing, lambda: 0, tally.stop)
    entries = pin(select(listed, params["files"]), params["sha256"])
    if not entries:
        raise DeliveryError("%s: no file to get; check pd_model_files" % what)
    need_room(work, entries)
    tally.total, tally.files = sum(entry.size for entry in entries), len(entries)

    def job(entry: Entry) -> Callable[[], dict[str, Any]]:
        return lambda: fetch(source, entry, work, tally)

    # The largest first: they decide how long it takes.
    jobs = [job(entry) for entry in sorted(entries, key=lambda e: -e.size)]
    write_manifest(params, work, everything(jobs, tally, tell))
    remember(work, {"phase": "done"})
    os.rename(work, params["path"])


def take_stock(params: dict[str, Any], work: str, tell: Callable[[str], None]) -> None:
    """Write the manifest of a directory that somebody else filled."""
    tally = Tally()
    paths = []
    for folder, folders, names in os.walk(params["path"]):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [os.path.join(folder, name) for name in names if not name.startswith(".")]
    tally.total, tally.files = sum(map(present, paths)), len(paths)

    def job(path: str) -> Callable[[], dict[str, Any]]:
        return lambda: counted(row(os.path.relpath(path, params["path"]), path))

    def counted(done: dict[str, Any]) -> dict[str, Any]:
        tally.add(done["size"], transferred=True)
        tally.finish()
        return done

    write_manifest(params, params["path"], everything([job(p) for p in paths], tally, tell))
    remember(params["path"], {"phase": "done"})
    shutil.rmtree(work)


def write_manifest(params: dict[str, Any], folder: str, rows: list[dict[str, Any]]) -> None:
    """Write what makes a directory count as whole."""
    manifest = {key: params[key] for key in ("source", "endpoint", "repo", "revision")}
    manifest["files"] = sorted(rows, key=lambda row: str(row["path"]))
    write_json(os.path.join(folder, MANIFEST), manifest)


def write_json(path: str, document: Any) -> None:
    """Write a file that is whole at any time."""
    with open(path + ".new", "w", encoding="utf-8") as handle:
        json.dump(document, handle, indent=1)
    os.replace(path + ".new", path)


def read_json(path: str) -> Any:
    """Return a JSON document, None if there is none."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def remember(folder: str, state: dict[str, Any]) -> None:
    """Write how far the delivery is, for the calls that ask."""
    write_json(os.path.join(folder, STATE), dict(state, time=time.time()))


def work_folder(path: str) -> str:
    """Return where a model is put together."""
    return path + ".partial"


def whole(params: dict[str, Any]) -> bool:
    """Tell whether the manifest is the wanted one and its files have their sizes."""
    manifest = read_json(os.path.join(params["path"], MANIFEST))
    try:
        if (manifest["repo"], manifest["revision"]) != (params["repo"], params["revision"]):
            return False
        rows = [(os.path.join(params["path"], r["path"]), r["size"]) for r in manifest["files"]]
    except (TypeError, KeyError):
        return False
    return all(os.path.isfile(path) and present(path) == size for path, size in rows)


def outcome(params: dict[str, Any]) -> dict[str, Any]:
    """Hand over, once, how a worker ended: ``phase`` done or failed; empty if there is no news."""
    for folder in (params["path"], work_folder(params["path"])):
        path = os.path.join(folder, STATE)
        state = read_json(path) or {}
        if state.get("phase") in ("done", "failed"):
            os.unlink(path)
            if time.time() - state["time"] <= FRESH:
                return dict(state)
    return {}


def grab(folder: str, how: int) -> int | None:
    """Lock a folder for a worker, or to see whether there is one; return the descriptor."""
    try:
        descriptor = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def working(path: str) -> bool:
    """Tell whether a worker puts this model together; it ends its lock by ending."""
    folder = work_folder(path)
    if not os.path.isdir(folder):
        return False
    descriptor = grab(folder, fcntl.LOCK_SH)
    if descriptor is None:
        return os.path.isdir(folder)
    os.close(descriptor)
    return False


def start(params: dict[str, Any]) -> None:
    """Start the worker, a process of its own session; return when it has begun."""
    work = work_folder(params["path"])
    if params["source"] != "directory" and os.path.isdir(params["path"]):
        if os.path.isdir(work):
            shutil.rmtree(work)
        # What is whole in it need not be brought again.
        os.rename(params["path"], work)
    os.makedirs(work, exist_ok=True)
    begun, begin = os.pipe()
    child = os.fork()
    if child:
        os.close(begin)
        os.read(begun, 1)
        os.close(begun)
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    work_alone(params, work, begin)
    os._exit(0)


def work_alone(params: dict[str, Any], work: str, begin: int) -> None:
    """Do the worker's work; leave how it ended in the state file."""
    lock = None
    for _ in range(100):
        lock = grab(work, fcntl.LOCK_EX)
        if lock is not None:
            break
        # Either another worker, or a call that only looks: that one lets go at once.
        time.sleep(0.02)
    os.close(begin)
    if lock is None:
        return
    os.umask(0o022)
    os.chmod(work, 0o755)
    task = take_stock if params["source"] == "directory" else deliver
    try:
        task(params, work, lambda text: remember(work, {"phase": "running", "progress": text}))
    except DeliveryError as error:
        remember(work, {"phase": "failed", "error": str(error)})
    except Exception as error:
        # Whatever it is, the call that waits must hear of it.
        remember(work, {"phase": "failed", "error": "%s: %s" % (type(error).__name__, error)})


def progress(path: str) -> str:
    """Return how far the worker is."""
    state = read_json(os.path.join(work_folder(path), STATE)) or {}
    return str(state.get("progress") or "starting")


def wait(params: dict[str, Any]) -> None:
    """Wait until the worker has ended, or the call's time is over."""
    limit = time.monotonic() + params["wait_seconds"]
    while working(params["path"]) and time.monotonic() < limit:
        time.sleep(0.2)


def call(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Start or go on, wait, and say how far it is. Raises DeliveryError when it ended badly."""
    told = {} if check else outcome(params)
    if not told and not whole(params):
        if check:
            return {"changed": True, "done": True, "progress": "to be brought"}
        if not working(params["path"]):
            start(params)
        wait(params)
        if working(params["path"]):
            return {"changed": True, "done": False, "progress": progress(params["path"])}
        told = outcome(params)
    if told.get("phase") == "failed":
        raise DeliveryError(told["error"])
    if not whole(params):
        raise DeliveryError("the worker ended without a word (killed? out of memory?); run again")
    return {"changed": bool(told), "done": True, "progress": "whole"}


def main() -> None:
    """Bring the model, or go on with it."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "source": {
                "type": "str",
                "required": True,
                "choices": ["huggingface", "modelscope", "host", "directory"],
            },
            "repo": {"type": "str", "required": True},
            "revision": {"type": "str", "default": ""},
            "endpoint": {"type": "str", "default": ""},
            "token": {"type": "str", "default": "", "no_log": True},
            "files": {"type": "list", "elements": "str", "default": []},
            "sha256": {"type": "dict", "default": {}},
            "wait_seconds": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    params = dict(module.params, path=module.params["path"].rstrip("/"))
    try:
        module.exit_json(**call(params, module.check_mode))
    except (DeliveryError, OSError) as error:
        module.fail_json(msg="%s: %s" % (params["path"], error), done=True)


if __name__ == "__main__":
    main()
