"""Tests on the lab: several hosts on this machine."""
