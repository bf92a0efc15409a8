"""Prove the service: real requests, and the engines' own counters. HTTP 200 proves nothing."""
