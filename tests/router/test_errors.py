"""Errors from the inside tell nothing of the inside."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdinfra_router.errors import RefusedError, hidden, mended
from pdinfra_router.members import Member
from pdinfra_router.routers import arguments


@settings(max_examples=50, deadline=None)
@given(status=st.integers(400, 599), body=st.binary(max_size=200))
def test_whatever_comes_is_an_error_of_openais(status: int, body: bytes) -> None:
    found = mended(status, body)
    assert 400 <= found.status <= 599
    error = json.loads(found.body())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]


@pytest.mark.parametrize(
    "address",
    ["http://10.0.0.1:8100/v1/completions", "10.0.0.1:8100", "[fd00::1]:8100", "tcp://node4:5600"],
)
def test_no_address_comes_through(address: str) -> None:
    text = f"it failed at {address}, see there"
    assert address not in hidden(text)
    for body in (text, json.dumps({"error": {"message": text}}), json.dumps({"detail": text})):
        for status in (400, 404, 422, 500, 503):
            assert address not in mended(status, body.encode()).message


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, b"Transparent proxy request failed: Network error", 503),
        (500, b"Prefill server x returned 500 Internal Server Error: y", 500),
        (500, b"Internal Server Error", 500),
        (500, b'{"error": {"message": "x"}}', 500),
        (502, b"", 503),
        (422, b"missing field", 400),
        (429, b"busy", 429),
    ],
)
def test_a_status_says_whether_trying_again_helps(status: int, body: bytes, expected: int) -> None:
    found = mended(status, body)
    assert found.status == expected
    assert ("Retry-After" in found.headers) is (expected == 503)


def test_errors_of_older_engines_and_of_fastapi_are_read() -> None:
    old = {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}
    assert mended(400, json.dumps(old).encode()).kind == "BadRequestError"
    assert mended(422, b'{"detail": [{"loc": ["x"]}]}').message == '[{"loc": ["x"]}]'
    assert isinstance(mended(400, b'{"error": "no"}'), RefusedError)


def test_mooncakes_bootstrap_port_is_given_to_vllm_router() -> None:
    p0 = Member("p0", "prefill", "http://10.0.0.1:8100", "http://10.0.0.1:8998")
    d0 = Member("d0", "decode", "http://10.0.0.2:8200")
    words = arguments((p0, d0), "mooncake")
    assert words[1:] == [
        *("--kv-connector", "mooncake"),
        *("--prefill", "http://10.0.0.1:8100", "8998", "--decode", "http://10.0.0.2:8200"),
    ]
    assert "8998" not in arguments((p0, d0), "nixl")
    for kv in ("", "http://10.0.0.3:8998"):
        with pytest.raises(ValueError, match="p0"):
            arguments((Member("p0", "prefill", p0.url, kv), d0), "mooncake")
