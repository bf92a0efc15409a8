"""Certificates as files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pdinfra.reading.certificate import certificate_facts, fingerprint

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def pem(*addresses: str) -> str:
    """Return a certificate that signs itself, for some addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=10))
    )
    if addresses:
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(a)) for a in addresses]
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = made.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def test_end_and_addresses_are_read() -> None:
    text = pem("10.0.0.1", "fd00::1")
    (fact,) = certificate_facts({"/pki/node.crt": text}).values()
    assert fact.addresses == ("10.0.0.1", "fd00::1")
    assert fact.expires == (NOW + timedelta(days=10)).timestamp()
    assert fact.sha256 == fingerprint(text)


def test_certificate_for_nobody() -> None:
    assert certificate_facts({"a": pem()})["a"].addresses == ()


@pytest.mark.parametrize("text", [None, "", "not one", pem()[:200]])
def test_what_is_none_is_as_good_as_absent(text: str | None) -> None:
    assert certificate_facts({"a": text}) == {}
