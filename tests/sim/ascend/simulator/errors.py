"""How a simulated tool fails."""

from __future__ import annotations


class ToolError(Exception):
    """What a tool prints when it fails; its exit code is the low byte of the tool's own code."""

    def __init__(self, text: str, code: int) -> None:
        """Take the text and the tool's own code, such as -8005 or 0x300B."""
        super().__init__(text)
        self.exit_code = code & 0xFF
