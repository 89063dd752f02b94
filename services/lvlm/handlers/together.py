"""Run questions side by side; the first failure ends the others and is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


async def all_or_none(questions: Iterable[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Results in order. Unlike a task group it raises the failure itself, which the error table knows, not a group."""
    tasks = [asyncio.create_task(question) for question in questions]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
