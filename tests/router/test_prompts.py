"""A list of prompts becomes single ones, and their answers one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pdinfra_router import prompts, sse

TEXTS = st.lists(st.text(min_size=1), min_size=1, max_size=8)
FEW = settings(max_examples=40, deadline=None)
IDS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=8)


def part(number: int, each: int, used: int) -> dict[str, Any]:
    """Return an engine's answer to one prompt; its choices come in any order."""
    choices = [{"index": n, "text": f"{number}/{n}"} for n in reversed(range(each))]
    details = {"cached_tokens": used}
    usage = {"prompt_tokens": used, "total_tokens": used, "prompt_tokens_details": details}
    return {"id": f"id{number}", "created": number, "choices": choices, "usage": usage}


@FEW
@given(prompt=TEXTS | IDS, n=st.integers(1, 4))
def test_each_prompt_is_asked_alone_and_nothing_else_changes(prompt: list[Any], n: int) -> None:
    document = {"model": "m", "prompt": prompt, "n": n, "best_of": 4, "seed": 7}
    asked = prompts.singles(document)
    assert [each["prompt"] for each in asked] == prompt
    assert all({**each, "prompt": prompt} == document for each in asked)


@FEW
@given(ids=st.lists(st.integers(0, 9), min_size=1))
def test_one_list_of_ids_is_one_prompt(ids: list[int]) -> None:
    assert prompts.singles({"prompt": ids}) == [{"prompt": ids}]


@FEW
@given(used=st.lists(st.integers(0, 1000), min_size=1, max_size=9), each=st.integers(1, 4))
def test_whole_answers_are_joined_in_the_prompts_order(used: list[int], each: int) -> None:
    one = prompts.joined([part(n, each, tokens) for n, tokens in enumerate(used)], each)
    assert [choice["index"] for choice in one["choices"]] == list(range(len(used) * each))
    expected = [f"{number}/{n}" for number in range(len(used)) for n in range(each)]
    assert [choice["text"] for choice in one["choices"]] == expected
    assert one["usage"]["total_tokens"] == sum(used)
    assert one["usage"]["prompt_tokens_details"] == {"cached_tokens": sum(used)}
    assert (one["id"], one["created"]) == ("id0", 0)


@FEW
@given(data=st.data(), count=st.integers(1, 5), each=st.integers(1, 3))
def test_streams_in_any_order_are_the_text_that_each_would_be(
    data: st.DataObject, count: int, each: int
) -> None:
    waiting = {
        number: [
            *(
                {"id": number, "choices": [{"index": n, "text": t}]}
                for t in "abc"
                for n in range(each)
            ),
            {"id": number, "choices": [], "usage": {"total_tokens": number + 1}},
        ]
        for number in range(count)
    }
    chunks = prompts.Chunks(each)
    texts: dict[int, str] = {}
    ids = set()
    while waiting:
        number = data.draw(st.sampled_from(sorted(waiting)))
        chunk = chunks.merged(waiting[number].pop(0), number)
        if not waiting[number]:
            del waiting[number]
        for choice in chunk["choices"] if chunk else []:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
        ids |= {chunk["id"]} if chunk else set()
    assert texts == dict.fromkeys(range(count * each), "abc")
    usage = chunks.usage()
    assert usage is not None
    assert ids == {usage["id"]}
    assert usage["usage"]["total_tokens"] == count * (count + 1) / 2


@FEW
@given(
    documents=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=9)), max_size=6),
    cuts=st.lists(st.integers(0, 300), max_size=9),
    end=st.sampled_from([b"\n\n", b"\r\n\r\n"]),
)
def test_events_are_read_wherever_the_chunks_are_cut(
    documents: list[dict[str, str]], cuts: list[int], end: bytes
) -> None:
    stream = b"".join(sse.event(each).replace(b"\n\n", end) for each in documents) + sse.END
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    async def pieces() -> AsyncIterator[bytes]:
        for start, stop in pairwise(edges):
            yield stream[start:stop]

    async def read() -> list[bytes]:
        return [each async for each in sse.data(pieces())]

    *found, last = asyncio.run(read())
    assert [json.loads(each) for each in found] == documents
    assert last == sse.DONE
    assert sse.ended(stream)
    assert not sse.ended(stream[: -len(sse.END)])
