"""Command lines as the vendor's pd_ranktable_tools.py takes them, on typer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup


class ListsCommand(TyperCommand):
    """A verb that takes ``--list a b`` for ``--list a --list b``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spread the lists, then go on as usual."""
        names = {
            name for each in self.params if getattr(each, "multiple", False) for name in each.opts
        }
        return super().parse_args(ctx, spread(args, names))


class ModeGroup(TyperGroup):
    """A group of verbs that takes ``--mode VERB`` for ``VERB``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb first, then go on as usual."""
        return super().parse_args(ctx, verb_first(args))


def spread(args: Sequence[str], names: set[str]) -> list[str]:
    """Return the words with an option of ``names`` before each of its values."""
    found: list[str] = []
    current = ""
    for word in args:
        if word.startswith("-"):
            current = word if word in names else ""
            found += [] if current else [word]
        else:
            found += [current, word] if current else [word]
    return found


def verb_first(args: Sequence[str]) -> list[str]:
    """Return the words without --mode, and its value as the first word."""
    words = list(args)
    for number, word in enumerate(words):
        if word.startswith("--mode="):
            return [word.partition("=")[2], *words[:number], *words[number + 1 :]]
        if word == "--mode" and number + 1 < len(words):
            return [words[number + 1], *words[:number], *words[number + 2 :]]
    return words


def devices(words: Sequence[str], option: str) -> tuple[list[tuple[int, ...]], list[str]]:
    """Return each instance's device ids (``4,5`` → 4 and 5), and what is wrong with the others."""
    found, wrong = [], []
    for word in words:
        ids = word.split(",")
        if all(each.isascii() and each.isdecimal() for each in ids):
            found.append(tuple(int(each) for each in ids))
        else:
            wrong.append(f"{option} {word}: not device ids. Fix: as 4,5 with a blank between two")
    return found, wrong
