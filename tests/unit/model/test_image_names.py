"""Image names as Docker reads them."""

from __future__ import annotations

import pytest

from pdinfra.model.image_names import canonical, registry, repository


@pytest.mark.parametrize(
    ("ref", "host"),
    [
        ("quay.io/ascend/vllm-ascend:v1", "quay.io"),
        ("127.0.0.1:5443/pdinfra/x", "127.0.0.1:5443"),
        ("localhost/x:1", "localhost"),
        ("registry:5000/x", "registry:5000"),
        ("vllm/vllm-openai:v1", "docker.io"),
        ("nginx:1.2", "docker.io"),
    ],
)
def test_registry_is_what_looks_like_a_host(ref: str, host: str) -> None:
    assert registry(ref) == host


@pytest.mark.parametrize(
    ("ref", "full"),
    [
        ("nginx:1", "docker.io/library/nginx:1"),
        ("vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:v1"),
        ("docker.io/vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:v1"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
    ],
)
def test_full_name_says_which_registry(ref: str, full: str) -> None:
    assert canonical(ref) == full


@pytest.mark.parametrize(
    ("ref", "name"),
    [("a/b:1", "a/b"), ("host:5000/a/b:1", "host:5000/a/b"), ("host:5000/a/b", "host:5000/a/b")],
)
def test_port_is_no_tag(ref: str, name: str) -> None:
    assert repository(ref) == name
