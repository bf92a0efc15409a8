"""Who belongs to the data system, by etcd's own word, over its HTTP gateway (etcd 3.4 and newer).

Without ``etcdctl``: where a wheel has it differs by version.
"""

from __future__ import annotations

import base64
import json
import urllib.request

from pdinfra.yuanrong.status import CLUSTER


class MembersError(Exception):
    """etcd does not answer; the text says why."""


def listed(endpoint: str) -> str:
    """Return keys and values by turns, a line each, as ``etcdctl get --prefix`` prints them.

    endpoint: ``ip:port`` of an etcd without TLS. Raises MembersError.
    """
    # The end of a prefix's range is the prefix with its last byte one higher.
    end = CLUSTER[:-1] + chr(ord(CLUSTER[-1]) + 1)
    body = json.dumps({"key": _encoded(CLUSTER), "range_end": _encoded(end)}).encode()
    request = urllib.request.Request(f"http://{endpoint}/v3/kv/range", data=body, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            rows = json.load(answer).get("kvs", [])
        return "".join(f"{_decoded(row['key'])}\n{_decoded(row['value'])}\n" for row in rows)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise MembersError(
            f"etcd at {endpoint} does not say who its members are: {error}. "
            "Fix: see whether the master runs"
        ) from error


def _encoded(text: str) -> str:
    """Return text as etcd's gateway takes it."""
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    """Return what etcd's gateway means."""
    return base64.b64decode(text).decode(errors="replace")
