"""Keys and certificates: made once, readable by their owner alone, and they fit together."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from pdinfra.lab import keys


def test_ssh_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = keys.ssh_key(tmp_path)
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    load_ssh_private_key(first, password=None)
    assert path.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
    keys.ssh_key(tmp_path)
    assert path.read_bytes() == first


def test_certificate_is_the_cas_for_the_registrys_names(tmp_path: Path) -> None:
    keys.certificates(tmp_path)
    root, leaf = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes())
        for name in ("ca.crt", "tls.crt")
    )
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["quay.io", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    assert stat.S_IMODE((tmp_path / "tls.key").stat().st_mode) == 0o600


def test_certificates_are_made_once(tmp_path: Path) -> None:
    keys.certificates(tmp_path)
    first = (tmp_path / "ca.crt").read_bytes()
    keys.certificates(tmp_path)
    assert (tmp_path / "ca.crt").read_bytes() == first


def test_known_hosts_keeps_the_line_of_a_host_that_is_away_and_drops_those_that_are_gone() -> None:
    addresses = {"node1": "10.1.2.11", "node2": "10.1.2.12"}
    before = "node1,10.1.2.11 ssh-ed25519 OLD\nnode2,10.1.2.12 ssh-ed25519 B\nnode9,x y z\n"
    text = keys.known_hosts(before, addresses, {"node1": "ssh-ed25519 NEW root@node1"})
    assert text == "node1,10.1.2.11 ssh-ed25519 NEW\nnode2,10.1.2.12 ssh-ed25519 B\n"
