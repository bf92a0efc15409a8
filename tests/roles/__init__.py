"""Roles by themselves, on this machine."""
