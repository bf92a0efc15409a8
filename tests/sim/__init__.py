"""Simulators of what this machine does not have."""
