"""Send one request through one engine, or through a pair; give the answer once it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession
from multidict import CIMultiDict
from yarl import URL

from pdinfra_router.backend import Answer
from pdinfra_router.headers import kept
from pdinfra_router.protocols import Message, Order, Plan, Protocol
from pdinfra_router.seats import Seat, TakenOutError

STREAM = "text/event-stream"


@dataclass(frozen=True)
class Whole:
    """An answer that was read to its end."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    def answer(self) -> Answer:
        """Return it as one that comes."""
        return Answer(self.status, self.headers, self._once())

    async def _once(self) -> AsyncIterator[bytes]:
        """Give the body in one piece."""
        yield self.body


class LegError(Exception):
    """An engine failed before a byte of an answer was passed on: ask another.

    ``answer`` is what it said, where it answered with an error of its own (5xx).
    """

    def __init__(self, seat: Seat, reason: str, answer: Whole | None = None) -> None:
        """Blame a member."""
        super().__init__(f"{seat.member.id}: {reason}")
        self.seat = seat
        self.answer = answer


@asynccontextmanager
async def ask(
    session: ClientSession, seat: Seat, method: str, path: str, message: Message
) -> AsyncIterator[Answer]:
    """Send one engine a request; the first bytes of a stream are there, other answers are whole.

    Raises LegError. ``chunks`` raises ClientError where the answer breaks off.
    """
    with seat.leg() as leg:
        async with AsyncExitStack() as stack:
            try:
                async with seat.waiting(leg):
                    response = await stack.enter_async_context(
                        session.request(
                            method,
                            URL(f"{seat.member.url}{path}", encoded=True),
                            headers=message.headers,
                            data=message.body or None,
                            allow_redirects=False,
                        )
                    )
                    streamed = response.status == 200 and response.content_type == STREAM
                    body = await (response.content.readany() if streamed else response.read())
            except TakenOutError as error:
                raise LegError(seat, f"was taken out ({error})") from error
            except (ClientError, TimeoutError, OSError) as error:
                seat.doubted = True
                raise LegError(seat, f"no answer ({type(error).__name__})") from error
            seat.sign()
            headers = kept(response.headers)
            seat.doubted = response.status >= 500
            if seat.doubted:
                whole = Whole(response.status, headers, body)
                raise LegError(seat, f"answered {response.status}", whole)
            if not streamed:
                yield Whole(response.status, headers, body).answer()
                return
            if not body:
                raise LegError(seat, "ended its stream before the first byte")
            leg.cut = response.close
            yield Answer(response.status, headers, _rest(body, response, seat))


async def _rest(first: bytes, response: ClientResponse, seat: Seat) -> AsyncIterator[bytes]:
    """Give a stream's chunks as they come."""
    yield first
    while chunk := await response.content.readany():
        seat.sign()
        yield chunk


@asynccontextmanager
async def exchange(
    session: ClientSession,
    protocol: Protocol,
    order: Order,
    prefill: Seat,
    decode: Seat,
    prefilled: Callable[[], None] = lambda: None,
) -> AsyncIterator[Answer]:
    """Hand a completion through a pair; give decode's answer, or a 4xx of prefill.

    ``prefilled`` is called when prefill has answered well. Raises LegError as ``ask``.
    """
    try:
        plan = await protocol.plan(session, order, prefill.member, decode.member)
    except (ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
        raise LegError(prefill, f"does not tell its part ({type(error).__name__})") from error
    through = _together if plan.together else _one_after_the_other
    async with through(session, plan, order, prefill, decode, prefilled) as answer:
        yield answer


@asynccontextmanager
async def _one_after_the_other(
    session: ClientSession,
    plan: Plan,
    order: Order,
    prefill: Seat,
    decode: Seat,
    prefilled: Callable[[], None],
) -> AsyncIterator[Answer]:
    """Ask decode with what prefill answered."""
    first = await read(session, prefill, "POST", order.path, plan.prefill)
    if first.status != 200:
        yield first.answer()
        return
    prefilled()
    if decode.state == "out":
        raise LegError(decode, f"was taken out ({decode.reason})")
    message = plan.decode(_document(first, prefill))
    async with ask(session, decode, "POST", order.path, message) as answer:
        yield answer


@asynccontextmanager
async def _together(
    session: ClientSession,
    plan: Plan,
    order: Order,
    prefill: Seat,
    decode: Seat,
    prefilled: Callable[[], None],
) -> AsyncIterator[Answer]:
    """Ask both at once; decode waits for prefill, so prefill's failure ends the wait."""
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout(None)
    first = asyncio.create_task(read(session, prefill, "POST", order.path, plan.prefill))

    def answered(task: asyncio.Task[Whole]) -> None:
        if _well(task):
            prefilled()
        else:
            scope.reschedule(loop.time())

    async with AsyncExitStack() as stack:
        stack.push_async_callback(_end, first)
        first.add_done_callback(answered)
        try:
            async with scope:
                answer = await stack.enter_async_context(
                    ask(session, decode, "POST", order.path, plan.decode({}))
                )
        except (TimeoutError, LegError):
            if not first.done() or _well(first):
                raise
            answer = first.result().answer()
        finally:
            first.remove_done_callback(answered)
        yield answer


def _well(task: asyncio.Task[Whole]) -> bool:
    """Tell whether prefill, which has ended, answered well."""
    return not task.cancelled() and task.exception() is None and task.result().status == 200


async def _end(task: asyncio.Task[Whole]) -> None:
    """Leave no request of prefill behind; what it raised was told already or does not matter."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, LegError):
        await task


async def read(
    session: ClientSession, seat: Seat, method: str, path: str, message: Message
) -> Whole:
    """Ask one engine and read its whole answer. Raises LegError."""
    async with ask(session, seat, method, path, message) as answer:
        try:
            body = b"".join([chunk async for chunk in answer.chunks])
        except ClientError as error:
            raise LegError(seat, f"broke off ({type(error).__name__})") from error
        return Whole(answer.status, answer.headers, body)


def _document(answer: Whole, seat: Seat) -> Mapping[str, Any]:
    """Return what prefill answered. Raises LegError where that is no JSON object."""
    try:
        found: Any = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise LegError(seat, "answered no JSON object")
    return found
