"""Findings of the doctor, as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """One check on one host. ``invalid`` marks a fault of the inventory, not of the host."""

    model_config = ConfigDict(frozen=True)

    id: str
    host: str
    status: Literal["ok", "warn", "fail"]
    found: str
    expected: str
    fix: str = ""
    invalid: bool = False

    def __str__(self) -> str:
        """Return the one line that a person reads."""
        line = f"{self.host}: {self.id}: found {self.found}, expected {self.expected}"
        return f"{line}. Fix: {self.fix}" if self.fix else line


def document(checks: Iterable[Check]) -> dict[str, Any]:
    """Return the ``doctor --json`` document."""
    listed = list(checks)
    rows = [check.model_dump(mode="json", exclude={"invalid"}) for check in listed]
    return {"ok": all(check.status != "fail" for check in listed), "checks": rows}
