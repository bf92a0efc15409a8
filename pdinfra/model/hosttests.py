"""What the tests of the hosts found, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class HostTest(BaseModel):
    """One test on one host. A skipped one could not be made, for a reason another test tells."""

    model_config = ConfigDict(frozen=True)

    host: str
    test: str
    outcome: Literal["passed", "failed", "skipped"]
    found: str
    expected: str = ""

    @property
    def message(self) -> str:
        """The one line that a person reads; empty for a test that passed."""
        if self.outcome == "passed":
            return ""
        if self.outcome == "skipped":
            return f"skipped: {self.found}"
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.host}: {self.test}: found {self.found}{expected}"


def document(tests: Sequence[HostTest]) -> dict[str, Any]:
    """Return the ``verify --hosts --json`` document."""
    rows = [
        {
            "host": test.host,
            "test": test.test,
            "ok": test.outcome != "failed",
            "outcome": test.outcome,
            "message": test.message,
        }
        for test in tests
    ]
    return {"ok": all(row["ok"] for row in rows), "tests": rows}
