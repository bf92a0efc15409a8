"""KV between real engines through a real data system; nothing is simulated.

One plain engine says what is right; the service has to say the same, whatever
happens to its data system.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from pdinfra.assets import ROOT
from pdinfra_vllm.yuanrong import keys
from tests.commands import changed_inventory, command, containers, pdinfra, wait_until
from tests.yuanrong.world import (
    BLOCK,
    DECODE,
    DECODE_PORT,
    MODEL,
    PLAIN_PORT,
    PREFILL,
    PREFILL_PORT,
    ROUTER_PORT,
    SERVICE,
    WORKER,
    complete,
    counted,
    counters,
    data_system,
    docker,
    healthy,
    name,
    plain_engine,
    state,
)

pytestmark = pytest.mark.service

LENGTHS = [1, 2, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 500, 1000, 1024, 2000, 2047, 2048]


@dataclass
class Question:
    """A prompt and the text that a plain engine answers."""

    prompt: list[int]
    answer: str = ""


@dataclass
class Questions:
    """All questions, each for one test: what a prompt leaves behind is another's hit."""

    mixed: list[Question] = field(default_factory=list)
    shared: list[Question] = field(default_factory=list)
    damaged: list[Question] = field(default_factory=list)
    full: list[Question] = field(default_factory=list)
    killed: list[Question] = field(default_factory=list)
    frozen: list[Question] = field(default_factory=list)
    after: list[Question] = field(default_factory=list)

    def __iter__(self) -> Iterator[Question]:
        for group in vars(self).values():
            yield from group


def make_questions(text: list[int]) -> Questions:
    """Return prompts that are slices of a text, the same ones in every run."""
    draw = random.Random(4)

    def some(lengths: list[int]) -> list[Question]:
        result = []
        for length in lengths:
            start = draw.randrange(len(text) - length)
            result.append(Question(text[start : start + length]))
        return result

    mixed = some(LENGTHS + [draw.randrange(1, 500) for _ in range(165)])
    # A common prefix and different ends, as in the dataset of the guides.
    prefix = text[:640]
    mixed += [Question(prefix + question.prompt) for question in some([40] * 20)]
    return Questions(
        mixed=mixed,
        shared=[Question(text[1000:1640] + question.prompt) for question in some([30, 50])],
        damaged=some([330]),
        full=some([300] * 6),
        killed=some([200] * 24),
        frozen=some([300] * 3),
        after=some([300] * 2),
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bring up data system, prefill, decode and router; return the inventory."""
    inventory = changed_inventory(tmp_path_factory.mktemp("yuanrong"), **SERVICE)
    pdinfra("down", inventory=inventory)
    done = pdinfra("up", inventory=inventory)
    assert done.code == 0, done.text
    yield inventory
    pdinfra("down", inventory=inventory)


@pytest.fixture(scope="module")
def questions(service: Path) -> Questions:
    """Ask an engine without any connector first, of the same image."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    with plain_engine(containers()[PREFILL]["Config"]["Image"]), ThreadPoolExecutor(8) as pool:
        url = f"http://127.0.0.1:{PLAIN_PORT}/tokenize"
        tokens = httpx.post(url, json={"model": MODEL, "prompt": text[:40000]}, timeout=60).json()
        questions = make_questions(tokens["tokens"])
        answers = pool.map(lambda question: complete(PLAIN_PORT, question.prompt), questions)
        for question, answer in zip(questions, answers, strict=True):
            question.answer = answer
    return questions


def ask(questions: list[Question], port: int = ROUTER_PORT, threads: int = 8) -> list[float]:
    """Ask all, check every answer, and return how long each took, in seconds."""

    def one(question: Question) -> tuple[str, float]:
        start = time.monotonic()
        return complete(port, question.prompt), time.monotonic() - start

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(one, questions))
    wrong = [
        f"{len(question.prompt)} tokens: {answer!r}, not {question.answer!r}"
        for question, (answer, _) in zip(questions, results, strict=True)
        if answer != question.answer
    ]
    assert not wrong, f"{len(wrong)} of {len(questions)} answers are wrong: {wrong[:5]}"
    return [seconds for _, seconds in results]


def prefill(questions: list[Question]) -> None:
    """Have the prefill engine store the prompts' KV, as the router would."""
    for question in questions:
        complete(PREFILL_PORT, question.prompt, tokens=1)


def test_200_texts_are_those_of_a_plain_engine_and_kv_moved(
    service: Path, questions: Questions
) -> None:
    assert len(questions.mixed) >= 200
    blocks = sum(len(question.prompt) // BLOCK for question in questions.mixed)
    with (
        counted(PREFILL_PORT, stored_blocks=blocks // 2),
        counted(DECODE_PORT, external=blocks * BLOCK // 2, loaded_blocks=blocks // 2),
    ):
        ask(questions.mixed)
    assert counters(DECODE_PORT)["stored_blocks"] == 0
    assert all(counters(port)["failures"] == 0 for port in (PREFILL_PORT, DECODE_PORT))


def test_a_restarted_engine_finds_a_shared_prefix(service: Path, questions: Questions) -> None:
    first, second = questions.shared
    ask([first])
    docker("restart", "--time", "5", name(PREFILL))
    wait_until("prefill is back", 180, lambda: healthy(PREFILL_PORT))
    assert counters(PREFILL_PORT)["external"] == 0
    with counted(PREFILL_PORT, external=640, loaded_blocks=640 // BLOCK):
        ask([second], PREFILL_PORT)
    wait_until("the router uses it again", 30, lambda: served(first))


def test_damaged_blocks_are_computed(service: Path, questions: Questions) -> None:
    (question,) = questions.damaged
    prefill([question])
    logs = command("docker", "logs", name(DECODE))
    engine = re.search(r"engine ([0-9a-f]{64})", logs.text)
    assert engine is not None
    hashes = keys.chain(bytes.fromhex(engine[1]), question.prompt, BLOCK)
    names = keys.keys(hashes, keys.rank_name(0, 0))
    found = data_system("print(client.exist(sys.argv[1:]))", *names)
    assert found.split() == str([True] * 10).split()
    data_system(
        "third, fourth, fifth = sys.argv[1:]\n"
        "whole = client.get([third])[0]\n"
        "flipped = bytearray(whole); flipped[5000] ^= 1\n"
        "values = [bytes(flipped), whole[:-7], b'garbage']\n"
        "print(client.mset([third, fourth, fifth], values, write_mode=evict, ttl_second=600))",
        *names[2:5],
    )
    with counted(DECODE_PORT, damaged_blocks=3, external=2 * BLOCK):
        ask([question], DECODE_PORT)


def test_a_full_data_system_only_forgets(service: Path, questions: Questions) -> None:
    data_system(
        "value = bytes(1 << 20)\n"
        "for i in range(400): client.set(f'other:{i}', value, write_mode=evict, ttl_second=600)"
    )
    with counted(DECODE_PORT, external=1):
        ask(questions.full)
    # What it forgot is computed and stored again.
    ask(questions.mixed[-20:])


def test_a_worker_that_is_killed_loses_no_request(service: Path, questions: Questions) -> None:
    _, restarts = state(WORKER)
    killer = threading.Timer(1.0, docker, ("exec", name(WORKER), "pkill", "-9", "datasystem_work"))
    killer.start()
    seconds = ask(questions.killed, threads=2)
    killer.join()
    # Once per engine a call may use up its time, and each engine has two clients.
    assert max(seconds) < 15
    wait_until("Docker has restarted it", 60, lambda: state(WORKER) == (True, restarts + 1))
    assert max(ask(questions.after[:1])) < 5
    wait_until(
        "the engines use the data system again", 60, lambda: stored_again(questions.after[1])
    )


def served(question: Question) -> bool:
    """Tell whether the router answers; it looks for its members every few seconds."""
    try:
        return complete(ROUTER_PORT, question.prompt) == question.answer
    except httpx.HTTPStatusError:
        return False


def stored_again(question: Question) -> bool:
    """Tell whether prefill stores again, by a prompt that its own cache does not have."""
    salted = Question([*question.prompt[:8], random.randrange(3, 2000), *question.prompt])
    before = counters(PREFILL_PORT)["stored_blocks"]
    prefill([salted])
    # An engine publishes its counters once a second.
    time.sleep(1)
    return counters(PREFILL_PORT)["stored_blocks"] > before


def test_a_worker_that_hangs_loses_no_request(service: Path, questions: Questions) -> None:
    docker("pause", name(WORKER))
    try:
        seconds = ask(questions.frozen, threads=1)
    finally:
        docker("unpause", name(WORKER))
    assert max(seconds) < 15
