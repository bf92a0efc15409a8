"""What a proof says on the terminal: "KV moved" only where a counter told."""

from __future__ import annotations

import io

from rich.console import Console

from pdinfra.cli.tables import show_proof
from pdinfra.model.proof import Completion, PairProof, Proof


def shown(pair: PairProof, *notes: str) -> str:
    said = io.StringIO()
    answer = Completion(prompt="p", text="t", completion_tokens=1)
    proof = Proof(ok=True, pairs=(pair,), completion=answer, notes=notes)
    show_proof(Console(file=said, width=200), proof, "http://r")
    return said.getvalue()


def test_kv_that_moved_is_told_with_the_counter() -> None:
    pair = PairProof(
        prefill="p0", decode="d0", ok=True, prompt_tokens=42, external_tokens=41, counter="c"
    )
    assert "KV moved: 41 of 42 prompt tokens went from p0 to d0 (decode's own counter c)" in shown(
        pair
    )


def test_without_a_counter_nothing_is_said_to_have_moved() -> None:
    pair = PairProof(prefill="p0", decode="d0", ok=True, prompt_tokens=42, external_tokens=None)
    said = shown(pair, "d0 shows no counter")
    assert "p0 and d0 answered one after the other" in said
    assert "KV moved" not in said
    assert "d0 shows no counter" in said
