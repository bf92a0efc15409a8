"""vLLM on openYuanrong's data system: what engines keep in it and how.

Only :mod:`native` imports ``yr.datasystem``, and only when a client is made: an
engine without it pays nothing and does not need its package.
"""
