"""Typed data: inventory, plan, facts, changes, findings. No logic beyond validation, no I/O."""
