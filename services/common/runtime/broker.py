"""Redis as its clients reach it: where it is, who one is there, and the files of TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from pydantic import model_validator

from plumbline.fresh_files import UnusableFile
from services.common.runtime.settings import ServiceSettings


@dataclass(frozen=True)
class Broker:
    """Redis at `url`, which may hold a user and a password and is therefore in no representation.

    Under rediss:// `authority` (PEM) certifies the server, the system's authorities where there is none, and the server is shown `certificate` and `key`
    where there are. Clients read these files for each connection, so renewed ones are in use from the next on.
    """

    url: str = field(repr=False)
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_under_tls(self) -> bool:
        return self.url.startswith("rediss://")

    @property
    def tls(self) -> dict[str, Any]:
        """What redis-py and Celery's `broker_use_ssl` take; empty without TLS."""
        if not self.is_under_tls:
            return {}
        files = {"ssl_ca_certs": self.authority, "ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        named = {name: str(path) for name, path in files.items() if path}
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True} | named

    def connect(self, timeout_s: float) -> redis.Redis:
        """A client that waits so long for a connection and for each answer."""
        return redis.Redis.from_url(self.url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, **self.tls)


class BrokerSettings(ServiceSettings):
    """Settings of a service that speaks to Redis."""

    broker_url: str = ""
    """Redis, for messages and progress: redis://host:port/db, rediss:// under TLS."""
    broker_url_file: Path | None = None
    """File that holds the URL instead, for one with a user and a password in it; it is read at the start."""
    broker_authority: Path | None = None
    """Certificates (PEM) of who certifies Redis; without it one that the system trusts. This and the two below need rediss://."""
    broker_certificate: Path | None = None
    """Certificate (PEM) that Redis is shown; together with its key or not at all."""
    broker_key: Path | None = None
    """Key of the certificate (PEM, no password)."""

    @model_validator(mode="after")
    def _check_broker(self) -> Self:
        if self.broker_url and self.broker_url_file:
            raise UnusableFile(
                f"{self.variable('broker_url')}: set beside {self.variable('broker_url_file')}; expected one of them"
            )
        if bool(self.broker_certificate) != bool(self.broker_key):
            missing = "broker_key" if self.broker_certificate else "broker_certificate"
            raise UnusableFile(f"{self.variable(missing)}: not set; certificate and key go together")
        return self

    @property
    def has_broker(self) -> bool:
        """Whether a setting says where Redis is."""
        return bool(self.broker_url or self.broker_url_file)

    def read_broker(self) -> Broker:
        """Where Redis is. `UnusableFile` names the setting that is wrong, and never the URL, which may hold a password."""
        variable = self.variable("broker_url_file" if self.broker_url_file else "broker_url")
        broker = Broker(self._read_url(variable), self.broker_authority, self.broker_certificate, self.broker_key)
        files = {name: getattr(broker, name) for name in ("authority", "certificate", "key")}
        if any(files.values()) and not broker.is_under_tls:
            raise UnusableFile(f"{variable}: expected rediss://…, as there are settings of TLS to Redis")
        for name, path in files.items():
            if path and not path.is_file():
                raise UnusableFile(f"{self.variable(f'broker_{name}')}: {path}: no such file")
        return broker

    def _read_url(self, variable: str) -> str:
        url = self.broker_url
        if self.broker_url_file:
            try:
                url = self.broker_url_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UnusableFile(f"{variable}: {self.broker_url_file}: can't be read") from error
        if not _is_redis(url):
            raise UnusableFile(
                f"{variable}: expected redis://host:port/db or rediss://…, in a password all but letters and digits percent-encoded"
            )
        return url


def _is_redis(url: str) -> bool:
    """Whether host, port and number are where the clients look for them: what they say of another URL may quote a password."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_number = not parts.path.strip("/") or parts.path.strip("/").isdecimal()
    return parts.scheme in ("redis", "rediss") and has_host and is_number and not parts.fragment
