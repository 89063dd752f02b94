"""The base of every service's settings: read from the environment once, frozen, nothing unknown accepted."""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Settings under one prefix. A variable with the prefix that is no field is refused: it is a typing mistake."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_nested_delimiter="__")

    listen: str
    """Address to serve gRPC on, host:port."""
    metrics_listen: str = Field(default="", pattern=r"^$|^\S+:\d+$")
    """Address to serve metrics on for Prometheus over HTTP, host:port; empty for none."""
    max_message_bytes: int = 64 * 2**20
    """Largest gRPC message taken; a larger one is RESOURCE_EXHAUSTED."""
    max_connection_age_s: float = Field(default=600.0, gt=0)
    """How long a client keeps one connection, seconds, give or take a tenth; calls in flight are finished on it, and the client's next call opens
    another, perhaps to a replica that came up since."""
    drain_s: float = 10.0
    """How long calls in flight may run on after SIGTERM, seconds."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: Any) -> Any:
        prefix = cls.model_config.get("env_prefix", "")
        known = {f"{prefix}{name}".upper() for name in cls.model_fields}
        unknown = sorted(
            name
            for name in os.environ
            if prefix and name.upper().startswith(prefix.upper()) and name.upper().split("__")[0] not in known
        )
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return values
