"""pdinfra's simulator of openYuanrong's program `yr` in both dialects. Not the real thing.

Modules import each other relatively, and need Python 3.11 and nothing else: the folder above is
copied to a lab host as it is.
"""
