"""pdinfra's SIMULATOR of AscendCloud-LLM's start_servers.sh.

It runs in the container, with what the engine's image has (aiohttp, vLLM) and nothing of pdinfra.
"""
