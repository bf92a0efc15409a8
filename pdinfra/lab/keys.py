"""Throw-away keys of a lab: the user's SSH key, known_hosts, and the registry's CA and certificate.

They are made once per lab, live in its state folder, and protect nothing but the lab.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from pdinfra.lab.names import QUAY

_VALID = timedelta(days=3650)


def ssh_key(folder: Path) -> Path:
    """Return the private SSH key of a lab; make it and its .pub if it is not there."""
    path = folder / "id_ed25519"
    if not path.is_file():
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        path.with_suffix(".pub").write_bytes(public + b" pdinfra-lab\n")
        _private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return path


def certificates(folder: Path) -> None:
    """Make ca.crt, and tls.crt and tls.key signed by it, if they are not there.

    The CA's own key is never written: nothing else will ever be signed by it.
    """
    if all((folder / name).is_file() for name in ("ca.crt", "tls.crt", "tls.key")):
        return
    authority = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = _name("pdinfra lab CA")
    basic = x509.BasicConstraints(ca=True, path_length=0)
    root = _certificate(issuer, issuer, authority.public_key()).add_extension(basic, critical=True)
    names: list[x509.GeneralName] = [x509.DNSName(QUAY), x509.DNSName("localhost")]
    names.append(x509.IPAddress(IPv4Address("127.0.0.1")))
    leaf = _certificate(_name(QUAY), issuer, key.public_key())
    leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for file, builder in (("ca.crt", root), ("tls.crt", leaf)):
        signed = builder.sign(authority, hashes.SHA256())
        (folder / file).write_bytes(signed.public_bytes(Encoding.PEM))
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _private(folder / "tls.key", plain)


def known_hosts(before: str, addresses: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """Return known_hosts with one line for each host.

    before: the file as it is; addresses: of all hosts; keys: the public keys that hosts show now.
    A host that cannot show its key keeps its line.
    """
    known = {line.partition(",")[0]: line for line in before.splitlines()}
    known |= {
        name: f"{name},{addresses[name]} {' '.join(key.split()[:2])}" for name, key in keys.items()
    }
    return "".join(f"{known[name]}\n" for name in addresses if name in known)


def _name(common: str) -> x509.Name:
    """Return a subject."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Return a certificate that is valid from yesterday, so that clocks may differ a little."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _VALID)
    )


def _private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, from its first byte on."""
    path.touch(mode=0o600)
    path.write_bytes(content)
