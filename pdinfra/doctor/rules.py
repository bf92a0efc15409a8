"""What a check is, as data: the table of docs/checks.md is made of these, and every finding too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdinfra.model.checks import Check


@dataclass(frozen=True)
class Rule:
    """One check of the doctor.

    ``what`` is the sentence of the docs' table, ``source`` where the trap is known from (guide,
    document, issue, measured). ``expected`` and ``fix`` are what a finding says unless it says
    something more exact.
    """

    id: str
    what: str
    expected: str
    fix: str
    source: str
    severity: Literal["fail", "warn"] = "fail"

    def ok(self, host: str, found: str, *, expected: str = "") -> Check:
        """Return that all is well; host may be a pair of hosts, ``a → b``."""
        wanted = expected or self.expected
        return Check(id=self.id, host=host, status="ok", found=found, expected=wanted)

    def bad(
        self,
        host: str,
        found: str,
        *,
        expected: str = "",
        fix: str = "",
        severity: Literal["fail", "warn"] | None = None,
    ) -> Check:
        """Return the finding, with its fix."""
        return Check(
            id=self.id,
            host=host,
            status=severity or self.severity,
            found=found,
            expected=expected or self.expected,
            fix=fix or self.fix,
        )
