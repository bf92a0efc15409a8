"""Rank tables as a pure library: who has which NPU at which address, in the formats of engines.

``topology`` is the truth that all formats share; ``ascendcloud``, ``hccl`` and ``vllm_ascend``
write and merge their format; ``read`` reads any of them back, ``lint`` finds what is wrong with
them, and ``picture`` draws them. Nothing here touches a file or a host.
"""
