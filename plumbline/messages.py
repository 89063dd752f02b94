"""Messages as they travel."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

Kept = TypeVar("Kept", bound=Message)


def detach(message: Kept) -> Kept:
    """A copy that holds nothing but itself: a part of a message keeps the whole, the files of all pictures of a page too."""
    alone = type(message)()
    alone.CopyFrom(message)
    return alone
