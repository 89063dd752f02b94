"""What names a picture by its content."""

from __future__ import annotations

import hashlib


def picture_digest(data: bytes, frame: int) -> str:
    """The SHA-256 of the picture's file, and of its frame's number too, unless that is the first or only one: "sha256:" and hex digits."""
    marked = f"#frame={frame}".encode() if frame > 1 else b""
    return f"sha256:{hashlib.sha256(data + marked).hexdigest()}"
