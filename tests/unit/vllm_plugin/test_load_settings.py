from __future__ import annotations

import pytest

from pdinfra_vllm.yuanrong_load.settings import Settings, read


def test_a_worker_is_enough() -> None:
    assert read({"worker": "10.0.0.2:31501"}, {}) == Settings("10.0.0.2", 31501)


def test_the_environment_names_the_worker_as_in_openyuanrongs_patches() -> None:
    assert read({}, {"DS_WORKER_ADDR": "10.0.0.2:31501"}).worker == "10.0.0.2:31501"


def test_all_problems_are_in_one_message() -> None:
    extra = {"worker": "10.0.0.2", "chunk_mb": "8", "lease_s": 0, "colour": 1, "transport": "fax"}
    with pytest.raises(ValueError, match="worker must be") as raised:
        read(extra, {})
    for part in ("chunk_mb must be int", "lease_s must be 1", "colour is none of", "not 'fax'"):
        assert part in str(raised.value)


def test_true_is_no_number() -> None:
    with pytest.raises(ValueError, match="chunk_mb must be int, not True"):
        read({"worker": "h:1", "chunk_mb": True}, {})
