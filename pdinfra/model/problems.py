"""What is wrong with an inventory, as data: every problem at once, each with its fix."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """One thing that is wrong, where, and what mends it."""

    model_config = ConfigDict(frozen=True)

    host: str
    thing: str
    cause: str
    fix: str

    def __str__(self) -> str:
        """Return the one line that a person reads."""
        return f"{self.host}: {self.thing}: {self.cause}. Fix: {self.fix}"

    @classmethod
    def of(cls, host: str, thing: str, text: str) -> Problem:
        """Return a line of `CAUSE. Fix: FIX` as a problem."""
        cause, _, fix = text.partition(". Fix: ")
        return cls(host=host, thing=thing, cause=cause, fix=fix or "correct it")


class InvalidInventoryError(Exception):
    """The inventory cannot be planned; ``problems`` holds every reason found (never empty)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems in the order found, without repeats."""
        self.problems: list[Problem] = list(dict.fromkeys(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
