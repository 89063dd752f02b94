"""Jobs that can't be read while all are looked at."""

from __future__ import annotations

MAX_UNREADABLE_JOBS = 3
"""After so many open jobs in a row that can't be read the record itself is taken to be away: each further one would cost a read's deadline."""


class UnreadableJobs:
    """Those of one look over the record. One alone must not keep the others from being looked at."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def pass_over(self, error: Exception) -> None:
        """A job could not be read; raises `error` when it was the last of too many in a row."""
        self._in_a_row += 1
        if self._in_a_row == MAX_UNREADABLE_JOBS:
            raise error

    def note_read(self) -> None:
        """An open job could be read. Ended ones are remembered, and tell nothing of the store."""
        self._in_a_row = 0
