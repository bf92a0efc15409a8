"""FAKE vLLM engine that answers at once, for measuring what stands before it. Not the real thing.

It parses nothing but lengths: ``/health`` and ``/v1/models`` as far as routers ask for them, and
one completion with NIXL's handle for every POST.
"""

from __future__ import annotations

import argparse
import asyncio
import json

HANDLE = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_engine_id": "fake",
    "remote_block_ids": [0],
    "remote_request_id": "fake",
    "remote_host": "127.0.0.1",
    "remote_port": 1,
}
USAGE = {"prompt_tokens": 64, "completion_tokens": 1, "total_tokens": 65}
CHOICE = {"index": 0, "text": " word", "logprobs": None, "finish_reason": "length"}
COMPLETION = {
    "id": "cmpl-fake",
    "object": "text_completion",
    "created": 1,
    "model": "fake",
    "choices": [CHOICE],
    "usage": USAGE,
    "kv_transfer_params": HANDLE,
}


def packed(document: object) -> bytes:
    """Return a whole HTTP answer."""
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


ANSWERS = {
    b"POST ": packed(COMPLETION),
    b"GET /v1/models ": packed({"object": "list", "data": [{"id": "fake", "max_model_len": 8192}]}),
    b"GET ": packed({}),
}


class Connection(asyncio.Protocol):
    """One client's connection, kept open."""

    def __init__(self) -> None:
        """Have read nothing."""
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            size = end + 4 + length(head)
            if b"transfer-encoding: chunked" in head.lower():
                stop = self._data.find(b"0\r\n\r\n", end)
                size = stop + 5 if stop >= 0 else len(self._data) + 1
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            self._transport.write(next(a for start, a in ANSWERS.items() if head.startswith(start)))


def length(head: bytes) -> int:
    """Return a message's Content-Length, 0 without."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    loop = asyncio.get_running_loop()
    port = parser.parse_args().port
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
