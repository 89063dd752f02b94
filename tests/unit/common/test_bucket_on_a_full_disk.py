"""A disk that is full here is not a bucket that does not answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.common.runtime.errors import Unavailable
from services.common.runtime.s3_bucket import CALL_S, Bucket


class Body:
    """What a server sends."""

    async def __aenter__(self) -> Body:
        self.chunks = [b"weights", b""]
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def read(self, _: int) -> bytes:
        return self.chunks.pop(0)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket that gives what it is asked for."""
    bucket = Bucket("records")

    async def answer(*_: object, **__: object) -> dict[str, object]:
        return {"ContentLength": 7, "Body": Body()}

    monkeypatch.setattr(bucket, "_s3", answer)
    return bucket


def test_a_download_to_a_full_disk_says_so_at_once(bucket):
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="this machine's own disk: No space left on device"):
        bucket.download("model.safetensors", Path("/dev/full"))
    assert time.monotonic() - begun < CALL_S / 2
