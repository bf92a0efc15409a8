"""pdinfra's simulator of an Ascend host: tools, files, packages and faults. Not the real thing.

Modules import each other relatively: the folder above is copied to a lab host as it is.
"""
