"""Calls to one S3 bucket, through fsspec's s3 filesystem: each has a deadline, tries again a bounded time and ends in an error of ours."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import botocore.exceptions
import s3fs
from fsspec.asyn import sync

from services.common.runtime.errors import InvalidInput, NotFound, Unavailable, Unsupported

_Result = TypeVar("_Result")

CALL_S = 20.0
"""Longest time for a call with all its tries, seconds; to it comes what its bytes take on a slow line."""
_SLOWEST_BYTES_PER_S = 2**20
_CONNECT_S, _SILENCE_S = 5.0, 10.0
_PAUSES_S = (0.1, 3.0)
"""First and longest pause between two tries, doubled in between."""
_CHUNK_BYTES = 2**20
_CONNECTIONS = 32
_WRITER = "plumbline-writer"
_PASSING = (408, 409, 425, 429)
"""Statuses beside 5xx that another try may do away with; 409 answers a writer while another one writes the same key."""
_PASSING_CODES = ("RequestTimeout", "SlowDown")
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_NO_ACCESS = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.ProfileNotFound,
)
_AWAY = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ResponseStreamingError,
    aiohttp.ClientError,
    OSError,
)


class _Taken(Exception):
    """There is such a key."""


class Bucket:
    """Keys and what lies under them. Endpoint, region and credentials come from the AWS variables and files.

    Every method raises `Unavailable` when the bucket can't be reached in time or refuses the call; `InvalidInput` at `store` when there is
    none of this name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        endpoint = next((os.environ[name] for name in _ENDPOINT_VARIABLES if os.environ.get(name)), None)
        self._files = s3fs.S3FileSystem(
            anon=False,
            endpoint_url=endpoint,
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": _CONNECT_S,
                "read_timeout": _SILENCE_S,
                "max_pool_connections": _CONNECTIONS,
                "retries": {"total_max_attempts": 1},
                # A server of one's own seldom has a host name for each bucket.
                "s3": {"addressing_style": "path" if endpoint else "auto"},
            },
        )
        self._files.retries = 1  # `_call` tries again, and knows until when

    def put_new(self, key: str, content: bytes, marks: Mapping[str, str] | None = None) -> bool:
        """Write a key that is not there; False when it is. `marks` (header names and values) are kept beside it.

        A try whose answer was lost may have written, and then the next one finds the key taken: by whom, its mark says.

        Raises
        ------
        Unsupported
            When the server knows no conditional writing.
        """
        writer = uuid.uuid4().hex

        async def attempt(_: asyncio.Timeout) -> None:
            noted = {**(marks or {}), _WRITER: writer}
            await self._s3("put_object", Key=key, Body=content, IfNoneMatch="*", Metadata=noted)

        try:
            self._call(attempt, len(content))
        except _Taken:
            return (self.marks(key) or {}).get(_WRITER) == writer
        return True

    def put_file(self, key: str, file: Path) -> None:
        """Write a file under a key that nobody else writes."""

        async def attempt(_: asyncio.Timeout) -> None:
            with file.open("rb") as body:
                await self._s3("put_object", Key=key, Body=body)

        self._call(attempt, file.stat().st_size)

    def get(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        """A key's content and marks; None when there is none."""

        async def attempt(limit: asyncio.Timeout) -> tuple[bytes, dict[str, str]]:
            response = await self._s3("get_object", Key=key)
            limit.reschedule(limit.when() + response["ContentLength"] / _SLOWEST_BYTES_PER_S)
            async with response["Body"] as body:
                return await body.read(), response["Metadata"]

        return self._find(attempt)

    def download(self, key: str, file: Path) -> str | None:
        """Write a key's content to `file`; returns its SHA-256 in hex, or None when there is no such key."""

        async def attempt(limit: asyncio.Timeout) -> str:
            response = await self._s3("get_object", Key=key)
            limit.reschedule(limit.when() + response["ContentLength"] / _SLOWEST_BYTES_PER_S)
            digest = hashlib.sha256()
            async with response["Body"] as body:
                with file.open("wb") as target:
                    while chunk := await body.read(_CHUNK_BYTES):
                        target.write(chunk)
                        digest.update(chunk)
            return digest.hexdigest()

        return self._find(attempt)

    def marks(self, key: str) -> dict[str, str] | None:
        """A key's marks; None when there is no such key."""

        async def attempt(_: asyncio.Timeout) -> dict[str, str]:
            return (await self._s3("head_object", Key=key))["Metadata"]

        return self._find(attempt)

    def names(self, prefix: str) -> set[str]:
        """What follows `prefix` in all keys, up to the next '/'."""
        return {name.rstrip("/") for name in self._list(prefix, Delimiter="/")} - {""}

    def below(self, prefix: str) -> Iterator[str]:
        """What follows `prefix` in all keys, whole; without those that other tools write to mark a folder."""
        return (name for name in self._list(prefix) if name and not name.endswith("/"))

    def has_below(self, prefix: str) -> bool:
        """Whether a key starts with `prefix`."""
        return next(self._list(prefix, MaxKeys=1), None) is not None

    def delete(self, key: str) -> None:
        """Remove a key; nothing happens when there is none."""

        async def attempt(_: asyncio.Timeout) -> None:
            await self._s3("delete_object", Key=key)

        self._find(attempt)

    def _list(self, prefix: str, **options: Any) -> Iterator[str]:
        page: dict[str, Any] = {}
        while True:
            at = {"ContinuationToken": page["NextContinuationToken"]} if page else {}

            async def attempt(_: asyncio.Timeout, at: dict[str, str] = at) -> dict[str, Any]:
                return await self._s3("list_objects_v2", Prefix=prefix, **options, **at)

            page = self._call(attempt)
            yield from (entry["Key"].removeprefix(prefix) for entry in page.get("Contents", []))
            yield from (entry["Prefix"].removeprefix(prefix) for entry in page.get("CommonPrefixes", []))
            if not page.get("IsTruncated"):
                return

    async def _s3(self, method: str, **arguments: Any) -> dict[str, Any]:
        return await self._files._call_s3(method, Bucket=self._name, **arguments)

    def _find(self, attempt: Callable[[asyncio.Timeout], Awaitable[_Result]]) -> _Result | None:
        try:
            return self._call(attempt)
        except NotFound:
            return None

    def _call(self, attempt: Callable[[asyncio.Timeout], Awaitable[_Result]], byte_count: int = 0) -> _Result:
        end = time.monotonic() + CALL_S + byte_count / _SLOWEST_BYTES_PER_S
        pause_s, longest_s = _PAUSES_S
        while True:
            try:
                return sync(self._files.loop, _bound, attempt, end - time.monotonic())
            except (OSError, botocore.exceptions.BotoCoreError, aiohttp.ClientError) as error:
                self._refuse(error)
                if time.monotonic() + pause_s >= end:
                    raise Unavailable(
                        f"artifact store: bucket '{self._name}' does not answer: {_tell(error)}"
                    ) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    def _refuse(self, error: Exception) -> None:
        """Raise what `error` means when another try can't do better."""
        status, code = _read_answer(error)
        if code == "NoSuchBucket":
            raise InvalidInput("store", f"there is no bucket '{self._name}'") from error
        if status == 404:
            raise NotFound("no such key") from error
        if status == 412:
            raise _Taken from error
        if status in (401, 403) or isinstance(error, (PermissionError, *_NO_ACCESS)):
            raise Unavailable(
                f"artifact store: no access to bucket '{self._name}' ({code or _tell(error)}); expected credentials in the AWS variables or "
                "files that may get, put, delete and list"
            ) from error
        if status == 501:
            raise Unsupported(
                f"artifact store: the server of bucket '{self._name}' does not know the call: {code}"
            ) from error
        is_passing = status in _PASSING or status >= 500 or code in _PASSING_CODES
        if status and not is_passing:
            raise Unavailable(f"artifact store: bucket '{self._name}' refused: {code}: {_tell(error)}") from error
        if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
            raise Unavailable(f"artifact store: this machine's own disk: {error.strerror}") from error
        if isinstance(error, botocore.exceptions.ParamValidationError):
            raise InvalidInput("store", f"can't be called: {_tell(error)}") from error
        if not status and not isinstance(error, _AWAY):
            raise error


async def _bound(attempt: Callable[[asyncio.Timeout], Awaitable[_Result]], timeout_s: float) -> _Result:
    async with asyncio.timeout(timeout_s) as limit:
        return await attempt(limit)


def _read_answer(error: Exception) -> tuple[int, str]:
    """HTTP status and S3 code of a server's refusal; 0 and "" when there was no answer."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), response.get("Error", {}).get("Code", "")


def _tell(error: Exception) -> str:
    return str(error) or type(error).__name__
