"""An authority that certifies what a test asks for."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plumbline.certificates import CertificateFiles

_PEM = serialization.Encoding.PEM
_DAY = timedelta(days=1)


class Authority:
    """Signs certificates of clients, and of servers at 127.0.0.1."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key, _DAY)
        self._certificate = builder.add_extension(x509.BasicConstraints(True, None), critical=True).sign(
            self._key, hashes.SHA256()
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(_PEM)

    def certify(self, name: str, lasts: timedelta = _DAY, password: bytes | None = None) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) for the common name; a negative `lasts` makes it expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = _builder(_name(name), self._name, key, lasts)
        certificate = builder.add_extension(x509.SubjectAlternativeName([loopback]), critical=False).sign(
            self._key, hashes.SHA256()
        )
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return certificate.public_bytes(_PEM), key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption)

    def write(self, folder: Path, name: str, lasts: timedelta = _DAY) -> CertificateFiles:
        """The files of a server or client called `name`, in `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        files = CertificateFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", "TEST_")
        for path, content in zip(files.paths, (*self.certify(name, lasts), self.pem), strict=True):
            path.write_bytes(content)
        return files


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(now + lasts)
    )
