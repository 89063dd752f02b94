"""How many entries a page of a list has."""

from __future__ import annotations

from services.common.runtime.errors import InvalidInput

MAX_PAGE = 1000


def check_page_size(size: int, default: int) -> int:
    """`size`, or `default` for 0; `InvalidInput` when it is out of range."""
    if not 0 <= size <= MAX_PAGE:
        raise InvalidInput("page_size", f"expected 1 to {MAX_PAGE}, or 0 for the default; got {size}")
    return size or default
