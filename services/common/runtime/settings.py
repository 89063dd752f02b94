"""The base of every service's settings: read from the environment once, frozen, nothing unknown accepted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from plumbline.certificates import CertificateFiles
from plumbline.fresh_files import UnusableFile

_ADDRESS = re.compile(r"\S+:([0-9]{1,5})")
_MOST_PORT = 65_535


class ServiceSettings(BaseSettings):
    """Settings under one prefix. A variable with the prefix that is no field is refused: it is a typing mistake."""

    # Input hidden: what is at fault is told by name, and beside it may stand the broker's URL with its password.
    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    listen: str
    """Address to serve gRPC on, host:port."""
    metrics_listen: str = Field(default="", pattern=r"^$|^\S+:\d+$")
    """Address to serve metrics on for Prometheus over HTTP, host:port; empty for none."""
    otlp_endpoint: str = Field(default="", pattern=r"^$|^https?://\S+$")
    """Where traces are sent, http://host:port (https:// for TLS) of an OpenTelemetry receiver over gRPC; empty for nowhere."""
    max_message_bytes: int = Field(default=64 * 2**20, ge=1, lt=2**31)
    """Largest gRPC message taken; a larger one is RESOURCE_EXHAUSTED."""
    max_calls_per_second: float = Field(default=0.0, ge=0)
    """Calls that one caller may make a second on average; 0 sets no limit. A caller is the name in a certificate, without TLS an address."""
    max_call_burst: int = Field(default=100, ge=1)
    """Calls that a caller may make at once, having been quiet before."""
    max_connection_age_s: float = Field(default=600.0, gt=0, le=2_000_000)
    """How long a client keeps one connection, seconds, give or take a tenth; calls in flight are finished on it, and the client's next call opens
    another, perhaps to a replica that came up since."""
    drain_s: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    """How long calls in flight may run on after SIGTERM, seconds."""

    tls_certificate: Path | None = None
    """Certificate (PEM) of this service, with those between it and the authority: shown to callers and to the services that it calls. All four
    or none; without them there is no TLS and no role."""
    tls_key: Path | None = None
    """Key of the certificate (PEM, no password)."""
    tls_authority: Path | None = None
    """Certificates (PEM) of who certifies callers and services."""
    tls_roles: Path | None = None
    """The names in callers' certificates, by role; see docs/security.md."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: Any) -> Any:
        prefix = cls.model_config.get("env_prefix", "")
        known = {f"{prefix}{name}".upper() for name in cls.model_fields}
        unknown = sorted(
            name
            for name in os.environ
            if prefix and name.upper().startswith(prefix.upper()) and name.upper() not in known
        )
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return values

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        for name in type(self).model_fields:
            address = getattr(self, name)
            if not name.endswith("listen") or not (address or name == "listen"):
                continue
            match = _ADDRESS.fullmatch(address)
            # gRPC counts on from 0 above the last port, and would listen there.
            if not match or int(match[1]) > _MOST_PORT:
                raise ValueError(
                    f"{self.variable(name)}: expected host:port, a port of {_MOST_PORT} at most, got '{address}'"
                )
        return self

    @model_validator(mode="after")
    def _ask_for_all_of_tls(self) -> Self:
        if bool(self.certificates) != bool(self.tls_roles):
            missing = "tls_certificate" if self.tls_roles else "tls_roles"
            raise UnusableFile(f"{self.variable(missing)}: not set; TLS needs certificate, key, authority and roles")
        return self

    @property
    def certificates(self) -> CertificateFiles | None:
        """The files of TLS, None where it is off."""
        prefix = self.variable("tls_")
        return CertificateFiles.choose(self.tls_certificate, self.tls_key, self.tls_authority, prefix)

    def variable(self, field: str) -> str:
        """The environment variable that sets `field`."""
        return f"{self.model_config.get('env_prefix', '')}{field}".upper()
