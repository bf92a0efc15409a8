"""From a backend's answers to the client's: one passed on, or those to several prompts as one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import ClientError, hdrs, web

from pdinfra_router import sse
from pdinfra_router.access import ID_HEADER
from pdinfra_router.backend import Answer, Backend, Call, UnavailableError
from pdinfra_router.errors import ERROR_BYTES, RefusedError, failed, mended, unavailable
from pdinfra_router.outlet import Outlet
from pdinfra_router.prompts import Chunks, joined, per_prompt

WHOLE_BYTES = 64 << 20
"""Of the answers to several prompts, which are held until all are there."""
T = TypeVar("T")
TAIL_BYTES = 32
"""Enough for the end of a stream: ``data: [DONE]`` and line ends."""
KEPT_HEADERS = (hdrs.CONTENT_TYPE, hdrs.CACHE_CONTROL)
"""Others may tell who answered."""


@dataclass(frozen=True)
class Opened:
    """An answer of the inside that has content and is no error."""

    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    @property
    def streams(self) -> bool:
        """Tell whether it consists of events."""
        return self.headers.get(hdrs.CONTENT_TYPE, "").startswith("text/event-stream")


@asynccontextmanager
async def opened(backend: Backend, call: Call) -> AsyncIterator[Opened]:
    """Give an answer whose first byte is there. Raises RefusedError before, BrokenError after."""
    try:
        async with backend.open(call) as answer:
            if answer.status >= 400:
                raise mended(answer.status, await _beginning(answer))
            if answer.status != 200:
                raise failed(f"the engine answered with status {answer.status}")
            first = await _first(answer)
            if not first:
                raise failed("the engine answered with nothing")
            headers = {str(k): answer.headers[k] for k in KEPT_HEADERS if k in answer.headers}
            yield Opened(headers, _all(first, answer.chunks))
    except UnavailableError as error:
        raise unavailable(str(error)) from error


async def passed_on(backend: Backend, call: Call, outlet: Outlet) -> web.StreamResponse:
    """Pass one answer on as it comes. Raises RefusedError, ConnectionError."""
    async with opened(backend, call) as answer:
        outlet.headers = answer.headers
        tail = b""
        try:
            async for chunk in answer.chunks:
                await outlet.write(chunk)
                tail = (tail + chunk[-TAIL_BYTES:])[-TAIL_BYTES:]
            if answer.streams and not sse.ended(tail):
                raise sse.BrokenError("the stream has no end")
        except sse.BrokenError as error:
            raise outlet.cut(str(error)) from error
        return await outlet.end()


class Several:
    """The answers to the prompts of one request, so many asked for at a time."""

    def __init__(self, backend: Backend, call: Call, at_once: int) -> None:
        """Take the headers and the id from the request that ``call`` was."""
        self._backend = backend
        self._call = call
        self._gate = asyncio.Semaphore(at_once)
        self._held = 0

    async def whole(self, documents: list[dict[str, Any]]) -> bytes:
        """Return one answer to all. Raises RefusedError: one that fails, fails them all."""
        parts = await _all_of(self._whole(*each) for each in enumerate(documents))
        try:
            return json.dumps(joined(parts, per_prompt(documents[0]))).encode()
        except (KeyError, TypeError) as error:
            raise failed("the engine's answer is none to a prompt") from error

    async def stream(self, documents: list[dict[str, Any]], outlet: Outlet) -> web.StreamResponse:
        """Send all answers as one stream. Raises RefusedError before it began, ConnectionError."""
        chunks = Chunks(per_prompt(documents[0]))
        try:
            await _all_of(self._stream(*each, chunks, outlet) for each in enumerate(documents))
            if usage := chunks.usage():
                await outlet.write(sse.event(usage))
            await outlet.write(sse.END)
        except (RefusedError, sse.BrokenError) as error:
            if outlet.begun:
                raise outlet.cut(str(error)) from error
            raise _refused(error) from error
        return await outlet.end()

    async def _whole(self, number: int, document: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one prompt."""
        body = bytearray()
        try:
            async with self._gate, opened(self._backend, self._part(number, document)) as answer:
                async for chunk in answer.chunks:
                    body += chunk
                    self._held += len(chunk)
                    if self._held > WHOLE_BYTES:
                        raise failed(f"the answer is larger than {WHOLE_BYTES} bytes; ask for less")
            found = json.loads(body)
        except sse.BrokenError as error:
            raise _refused(error) from error
        except ValueError as error:
            raise failed("the engine's answer is not JSON") from error
        if not isinstance(found, dict):
            raise failed("the engine's answer is none to a prompt")
        return found

    async def _stream(
        self, number: int, document: dict[str, Any], chunks: Chunks, outlet: Outlet
    ) -> None:
        """Send the chunks of one prompt's answer."""
        done = False
        async with self._gate, opened(self._backend, self._part(number, document)) as answer:
            async for data in sse.data(answer.chunks):
                if data == sse.DONE:
                    done = True
                    continue
                try:
                    chunk = chunks.merged(json.loads(data), number)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise sse.BrokenError("an event that is no chunk") from error
                if chunk is not None:
                    await outlet.write(sse.event(chunk))
        if not done:
            raise sse.BrokenError("a stream has no end")

    def _part(self, number: int, document: dict[str, Any]) -> Call:
        """Return the request for one prompt."""
        name = f"{self._call.request_id}-{number}"
        headers = self._call.headers.copy()
        headers[ID_HEADER] = name
        body = json.dumps(document).encode()
        return Call(self._call.method, self._call.path, headers, body, document, name)


async def _all_of(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results in order; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work) for work in works]
    except ExceptionGroup as group:
        raise _leaf(group) from group
    return [task.result() for task in running]


def _leaf(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return what failed first."""
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first


def _refused(error: RefusedError | sse.BrokenError) -> RefusedError:
    """Return what a client is told before the first byte."""
    if isinstance(error, RefusedError):
        return error
    return unavailable("the answer broke off; try again")


async def _first(answer: Answer) -> bytes:
    """Return the first bytes of a body, none if it is empty."""
    try:
        async for chunk in answer.chunks:
            if chunk:
                return chunk
    except ClientError as error:
        raise unavailable("the answer broke off before it began; try again") from error
    return b""


async def _all(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a body whose beginning was read already. Raises BrokenError where it breaks off."""
    yield first
    try:
        async for chunk in chunks:
            yield chunk
    except ClientError as error:
        raise sse.BrokenError("the answer broke off") from error


async def _beginning(answer: Answer) -> bytes:
    """Return the body of an error, as far as it is of use."""
    body = b""
    try:
        async for chunk in answer.chunks:
            body += chunk
            if len(body) > ERROR_BYTES:
                break
    except ClientError:
        return b""
    return body
