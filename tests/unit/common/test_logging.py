"""Log lines hold no word of what was sent, whoever writes them."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from services.common.runtime.logging import JsonFormatter, set_up_logging

SECRET = "Erika Mustermann"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the root logger writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def fail() -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"bad prompt: {SECRET}") from error


def test_a_line_names_the_trace_in_which_it_was_written_and_none_outside_of_one(lines):
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=True)
    with trace.use_span(trace.NonRecordingSpan(context)):
        logging.getLogger("services.x").warning("inside")
    logging.getLogger("services.x").warning("outside")
    inside, outside = map(json.loads, lines.getvalue().splitlines())
    assert inside["trace_id"] == f"{0xABC:032x}"
    assert "trace_id" not in outside


def test_exception_is_told_by_types_and_places(lines):
    try:
        fail()
    except ValueError:
        logging.getLogger("services.x").exception("it failed", extra={"count": 3})
    (line,) = lines.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["message"], entry["count"]) == ("it failed", 3)
    assert entry["stack"].index("builtins.KeyError") < entry["stack"].index("builtins.ValueError")
    assert "in fail" in entry["stack"]
    assert SECRET not in line


def test_exception_that_nobody_looked_at_is_told_without_its_words(lines):
    async def forget() -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        task.add_done_callback(lambda _: None)
        lost = asyncio.get_running_loop().create_future()
        lost.set_exception(ValueError(SECRET))
        del lost
        gc.collect()
        await task

    asyncio.run(forget())
    assert "Future exception was never retrieved" in lines.getvalue()
    assert SECRET not in lines.getvalue()


def test_libraries_are_not_heard_below_info_and_http_clients_below_warning():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    names = ("services", "httpx", "httpcore")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        set_up_logging("DEBUG")
        assert logging.getLogger("services.lvlm").isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("PIL.TiffImagePlugin").isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
        assert not logging.getLogger("httpcore.http11").isEnabledFor(logging.DEBUG)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


def test_an_exception_whose_causes_lead_back_to_it_is_told_once(lines, capsys):
    first, second = ValueError(SECRET), KeyError(SECRET)
    first.__cause__, second.__context__ = second, first
    logging.getLogger("services.x").error("it failed", exc_info=first)
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["stack"].splitlines() == ["builtins.KeyError", "builtins.ValueError"]
    assert SECRET not in line + capsys.readouterr().err
