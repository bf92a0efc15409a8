"""The vendor's command lines on ours."""

from __future__ import annotations

import pytest

from pdinfra.cli.vendor_words import devices, spread, verb_first

LISTS = {"--prefill-server-list", "--decode-server-list"}


def test_lists_are_spread() -> None:
    words = "--prefill-server-list 0,1 2,3 --decode-server-list 4,5 --api-server --save-dir d"
    assert spread(words.split(), LISTS) == [
        "--prefill-server-list",
        "0,1",
        "--prefill-server-list",
        "2,3",
        "--decode-server-list",
        "4,5",
        "--api-server",
        "--save-dir",
        "d",
    ]


def test_an_empty_list_is_none() -> None:
    assert spread(["--prefill-server-list", "--api-server"], LISTS) == ["--api-server"]


@pytest.mark.parametrize(
    "words", ["--mode gen --api-server", "--api-server --mode gen", "--mode=gen --api-server"]
)
def test_the_mode_is_the_verb(words: str) -> None:
    assert verb_first(words.split()) == ["gen", "--api-server"]


def test_without_a_mode_nothing_moves() -> None:
    assert verb_first(["merge", "--save-dir", "d"]) == ["merge", "--save-dir", "d"]


def test_devices() -> None:
    assert devices(["4,5", "6", "7,x", "1,,2"], "--list") == (
        [(4, 5), (6,)],
        [
            "--list 7,x: not device ids. Fix: as 4,5 with a blank between two",
            "--list 1,,2: not device ids. Fix: as 4,5 with a blank between two",
        ],
    )
