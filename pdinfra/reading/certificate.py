"""A host's certificates → what matters of them. They are public; keys are never read."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pdinfra.model.facts import CertificateFact


def certificate_facts(files: Mapping[str, str | None]) -> dict[str, CertificateFact]:
    """Return, by path, the certificates that are there and can be read as such."""
    facts = {}
    for path, text in files.items():
        try:
            facts[path] = _fact(x509.load_pem_x509_certificate((text or "").encode()))
        except ValueError:
            continue
    return facts


def fingerprint(text: str) -> str:
    """Return the SHA-256 of a certificate (PEM). Raises ValueError if it is none."""
    certificate = x509.load_pem_x509_certificate(text.encode())
    return certificate.fingerprint(hashes.SHA256()).hex()


def _fact(certificate: x509.Certificate) -> CertificateFact:
    """Read one certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        addresses: list[str] = []
    else:
        addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        addresses += names.get_values_for_type(x509.DNSName)
    return CertificateFact(
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        expires=certificate.not_valid_after_utc.timestamp(),
        addresses=tuple(addresses),
    )
