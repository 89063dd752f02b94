"""What is made of files, made anew when they change: certificates and roles, which are renewed while a process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

Content = TypeVar("Content")
_Stamp = tuple[int, int, int]

log = logging.getLogger(__name__)


class UnusableFile(ValueError):
    """A file that is missing or can't be used. The message names the setting and what is wrong."""


class FreshFiles(Generic[Content]):
    """What `read` makes of the files at `paths`. It raises `UnusableFile`: at first to whoever asks for it, later it leaves the last good content, and the
    log says so once. Any number of threads may ask.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], Content]) -> None:
        self._paths = paths
        self._read = read
        self._reading = threading.Lock()
        self._is_good = True
        # Before reading, as below: what is written meanwhile shows as another change.
        self._stamps = self._look()
        self._content = read()

    def get(self) -> Content:
        """The newest good content."""
        with self._reading:
            stamps = self._look()
            if stamps != self._stamps:
                self._stamps = stamps
                self._renew()
            return self._content

    def _renew(self) -> None:
        try:
            self._content = self._read()
        except UnusableFile as error:
            if self._is_good:
                log.error("changed files can't be used, the last good ones stay", extra={"cause": str(error)})
            self._is_good = False
        else:
            log.info("changed files are in use", extra={"files": [str(path) for path in self._paths]})
            self._is_good = True

    def _look(self) -> list[_Stamp | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> _Stamp | None:
    """What differs after any change to a file, its rights too, or when another is put in its place; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino
