"""The SIMULATED hub: what of the hubs' APIs a download uses, from a folder, with faults.

The shapes of answers are those that the hubs' own clients read (huggingface_hub hf_api.py,
modelscope hub/api.py), quoted in the docstring of the module pd_model.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = (".safetensors", ".bin")
"""Kept as git-lfs: listed with sha256, and served by the storage behind the hub."""
PAGE = 3
"""Files on one page of Hugging Face's listing."""
TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)$")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
MODELSCOPE = re.compile(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?$")
CDN = re.compile(r"/cdn/([^/]+/[^/]+)/(.+)$")


@dataclass
class Faults:
    """What goes wrong.

    ``cut_after``: each file's connection is cut once at this byte; ``cut_always`` each time.
    ``wrong`` and ``missing`` name files; ``busy`` are status codes, one for each next request;
    ``sizes`` are sizes that the listing claims; ``slow`` is bytes per second.
    """

    token: str = ""
    cut_after: int = 0
    cut_always: bool = False
    wrong: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    busy: list[int] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    slow: int = 0


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    path: str
    range: str
    authorization: str


class Hub(ThreadingHTTPServer):
    """Serves a folder ORG/NAME/files; every model has one commit, and on ModelScope the tag v1."""

    daemon_threads = True

    def __init__(
        self, folder: Path, where: tuple[str, int], faults: Faults, *, cdn: str = ""
    ) -> None:
        """Listen. cdn: the URL large files are redirected to, the hub's own by another name."""
        super().__init__(where, Handler)
        self.folder = folder
        self.faults = faults
        self.cdn = cdn
        self.seen: list[Seen] = []
        self.cut: set[str] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    def files(self, repo: str) -> dict[str, Path]:
        """Return a model's files by name."""
        root = self.folder / repo
        return {str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()}

    def commit(self, repo: str) -> str:
        """Return the one commit of a model."""
        total = hashlib.sha1()
        for name, path in self.files(repo).items():
            total.update(name.encode() + path.read_bytes())
        return total.hexdigest()

    def downloads(self, name: str) -> list[Seen]:
        """Return the requests that asked for a file's bytes."""
        quoted = (f"/{quote(name)}", f"FilePath={quote(name, safe='')}")
        return [seen for seen in self.seen if seen.path.endswith(quoted)]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    @property
    def hub(self) -> Hub:
        """The server."""
        return cast(Hub, self.server)

    def do_GET(self) -> None:
        """Answer as the hub whose API is asked."""
        authorization = self.headers.get("Authorization") or ""
        seen = Seen(self.path, self.headers.get("Range") or "", authorization)
        with self.hub.lock:
            self.hub.seen.append(seen)
            busy = self.hub.faults.busy.pop(0) if self.hub.faults.busy else 0
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}
        if busy:
            self._json({"error": "busy"}, busy, {"Retry-After": "0"})
        elif found := CDN.match(path):
            # Signed URLs: the storage refuses a request that is signed and authorized (as S3 does).
            if authorization:
                self._json({"error": "only one auth mechanism allowed"}, 400)
            else:
                self._file(found[1], found[2])
        elif self.hub.faults.token and authorization != f"Bearer {self.hub.faults.token}":
            self._json({"error": "Invalid username or password."}, 401)
        elif found := TREE.match(path):
            self._tree(found[1], found[2], int(query.get("cursor", "0")))
        elif found := MODELSCOPE.match(path):
            self._modelscope(found[1], query, listing=bool(found[2]))
        elif found := RESOLVE.match(path):
            self._resolve(found[1], found[2], found[3])
        else:
            self._json({"error": "Not Found"}, 404)

    def _tree(self, repo: str, revision: str, cursor: int) -> None:
        """Hugging Face's listing, a page of it."""
        if revision != self.hub.commit(repo):
            self._json({"error": f"Invalid rev id: {revision}"}, 404)
            return
        rows: list[dict[str, Any]] = [
            {"type": "directory", "path": "original", "oid": "0", "size": 0}
        ]
        for name, path in self.hub.files(repo).items():
            data = path.read_bytes()
            size = self.hub.faults.sizes.get(name, len(data))
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            row: dict[str, Any] = {"type": "file", "path": name, "oid": blob, "size": size}
            if name.endswith(LARGE):
                oid = hashlib.sha256(data).hexdigest()
                row |= {"oid": "f" * 40, "lfs": {"oid": oid, "size": size, "pointerSize": 135}}
            rows.append(row)
        more = {}
        if len(rows) > cursor + PAGE:
            here = f"/api/models/{repo}/tree/{revision}?recursive=true&cursor={cursor + PAGE}"
            more = {"Link": f'<{here}>; rel="next"'}
        self._json(rows[cursor : cursor + PAGE], 200, more)

    def _modelscope(self, repo: str, query: dict[str, str], *, listing: bool) -> None:
        """ModelScope's listing, or a file."""
        if query.get("Revision") not in ("v1", self.hub.commit(repo)):
            message = "the request revision not exist"
            self._json({"Code": 10010205001, "Success": False, "Message": message}, 404)
            return
        if not listing:
            self._file(repo, query["FilePath"])
            return
        rows = [{"Path": "original", "Type": "tree", "Size": 0, "Sha256": ""}]
        for name, path in self.hub.files(repo).items():
            data = path.read_bytes()
            rows.append(
                {
                    "Path": name,
                    "Name": path.name,
                    "Type": "blob",
                    "Size": self.hub.faults.sizes.get(name, len(data)),
                    "Sha256": hashlib.sha256(data).hexdigest(),
                    "IsLFS": name.endswith(LARGE),
                }
            )
        self._json({"Code": 200, "Success": True, "Message": "", "Data": {"Files": rows}})

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        """Hugging Face's file: large ones are redirected to the storage."""
        if revision != self.hub.commit(repo):
            self._json({"error": "Revision Not Found"}, 404)
        elif self.hub.cdn and name.endswith(LARGE):
            self.send_response(302)
            self.send_header("Location", f"{self.hub.cdn}/cdn/{repo}/{quote(name)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._file(repo, name)

    def _file(self, repo: str, name: str) -> None:
        """Send a file from the asked byte on, with the faults that are switched on."""
        faults = self.hub.faults
        path = self.hub.files(repo).get(name)
        if path is None or name in faults.missing:
            self._json({"error": "Entry not found"}, 404)
            return
        data = path.read_bytes()
        if name in faults.wrong:
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = re.match(r"bytes=(\d+)-$", self.headers.get("Range") or "")
        offset = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - offset))
        self.end_headers()
        end = self._cut(f"{repo}/{name}", offset, len(data))
        self._send(data[offset:end])

    def _cut(self, name: str, offset: int, size: int) -> int:
        """Return where this answer ends: the whole, or where the fault cuts it."""
        faults = self.hub.faults
        if not faults.cut_after or offset + faults.cut_after >= size:
            return size
        with self.hub.lock:
            if name in self.hub.cut and not faults.cut_always:
                return size
            self.hub.cut.add(name)
        return offset + (0 if faults.cut_always else faults.cut_after)

    def _send(self, data: bytes) -> None:
        """Send bytes, slowly if asked to."""
        step = max(self.hub.faults.slow // 10, 1) if self.hub.faults.slow else len(data)
        try:
            for at in range(0, len(data), max(step, 1)):
                self.wfile.write(data[at : at + step])
                if self.hub.faults.slow:
                    time.sleep(0.1)
        except OSError:
            self.close_connection = True  # The client went away.

    def _json(
        self, document: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send a JSON document."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet; ``Hub.seen`` has it all."""
