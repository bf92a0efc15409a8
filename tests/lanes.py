"""Lanes: what `pytest -n 2 --dist loadscope`, as `make test` runs it, keeps in one process.

Tests of one lane run one after the other, two lanes side by side. On two cores that is quicker:
an engine that starts, a container that stops and a probe that times out leave a core idle.
"""

from __future__ import annotations

from pathlib import PurePath

ENGINES = "engines"
"""Real engines, and what does not go with one that starts: looks at the service of this machine,
limits of a few seconds."""
HOSTS = "hosts"
"""Labs without a real engine."""

_LANES = {
    "tests/service": ENGINES,
    "tests/cli/test_bad_input.py": ENGINES,
    "tests/roles/test_nvidia_runtime.py": ENGINES,
    "tests/yuanrong": ENGINES,
    "tests/lab/test_ascendcloud.py": ENGINES,
    "tests/lab/test_connectors.py": ENGINES,
    "tests/lab/test_ray.py": ENGINES,
    "tests/lab/test_service.py": ENGINES,
    "tests/lab/test_span.py": ENGINES,
    "tests/lab/test_vllm_ascend.py": ENGINES,
    "tests/lab/test_yuanrong.py": ENGINES,
    "tests/lab": HOSTS,
}
_BEGIN = {ENGINES: 0, HOSTS: 2}


def lane(nodeid: str) -> str:
    """Return the lane of a test; of those not named above each folder is one, for its ports."""
    path = PurePath(nodeid.partition("::")[0])
    named = next((_LANES[str(p)] for p in (path, *path.parents) if str(p) in _LANES), None)
    return named or str(path.parent)


def place(nodeid: str) -> int:
    """Return a test's place in the run: engines first, hosts once short tests are done."""
    return _BEGIN.get(lane(nodeid), 1)
