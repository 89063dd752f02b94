"""The files of mutual TLS, which a server and its clients have alike: a certificate, its key, and the authority that the other side must be certified by."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from plumbline.fresh_files import UnusableFile


@dataclass(frozen=True)
class Certificates:
    """PEM: the own certificate with those between it and the authority, its key, and the authority's certificates."""

    chain: bytes
    key: bytes
    authority: bytes


@dataclass(frozen=True)
class CertificateFiles:
    """Where the three lie. The settings that say so are called `prefix` and CERTIFICATE, KEY or AUTHORITY."""

    certificate: Path
    key: Path
    authority: Path
    prefix: str

    @classmethod
    def choose(
        cls, certificate: Path | None, key: Path | None, authority: Path | None, prefix: str
    ) -> CertificateFiles | None:
        """The files, None when none is given; `UnusableFile` naming the first that is missing beside others."""
        if certificate and key and authority:
            return cls(certificate, key, authority, prefix)
        given = {"CERTIFICATE": certificate, "KEY": key, "AUTHORITY": authority}
        if any(given.values()):
            missing = next(name for name, path in given.items() if path is None)
            raise UnusableFile(f"{prefix}{missing}: not set; TLS needs {', '.join(prefix + name for name in given)}")
        return None

    @classmethod
    def from_environment(cls, prefix: str) -> CertificateFiles | None:
        """The files that environment variables name; as `choose`."""
        named = [os.environ.get(f"{prefix}{name}") for name in ("CERTIFICATE", "KEY", "AUTHORITY")]
        return cls.choose(*(Path(name) if name else None for name in named), prefix)

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        return self.certificate, self.key, self.authority

    def read(self) -> Certificates:
        """What the files hold; `UnusableFile` unless the key is the certificate's and the authority is one."""
        held = self._read_all()
        try:
            # Before gRPC sees them: it ends a client's process over a key that is not the certificate's. The empty password keeps it from asking at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:
            raise UnusableFile(
                f"{self.prefix}CERTIFICATE, {self.prefix}KEY: {self.certificate}, {self.key}: not a certificate and its key in PEM, without a password"
            ) from error
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=held.authority.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise UnusableFile(f"{self.prefix}AUTHORITY: {self.authority}: no certificate in PEM") from error
        if self._read_all() != held:
            # What was checked may not be what was read.
            raise UnusableFile(f"{self.prefix}CERTIFICATE: {self.certificate}: just being changed")
        return held

    def _read_all(self) -> Certificates:
        names = ("CERTIFICATE", "KEY", "AUTHORITY")
        return Certificates(*(_read(path, self.prefix + name) for path, name in zip(self.paths, names, strict=True)))


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableFile(f"{setting}: {path}: {error.strerror}") from error
