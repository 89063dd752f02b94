"""JSON lines on standard error: short constant messages, data in fields. No pixels, prompts or patient data.

What others write is cut down to that: of an exception the types and places, for its message may quote what was sent; of a message the
first line, for asyncio puts an exception's words below it; of libraries nothing below INFO, and of HTTP clients, which tell of what
they send and get, only warnings.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

from opentelemetry import trace

_OURS = "services"
_TALKATIVE = ("httpx", "httpcore")
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, every extra field, and the trace that it belongs to, if any."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().partition("\n")[0],
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry["trace_id"] = trace.format_trace_id(span.trace_id)
        if record.exc_info:
            entry["stack"] = _tell_places(record.exc_info[1])
        return json.dumps(entry, default=str)


def _tell_places(error: BaseException | None) -> str:
    """Types and places of an exception and of what caused it, the cause first."""
    told: list[BaseException] = []
    # A chain may lead back into itself. What the formatter falls over, logging would print words and all.
    while error is not None and not any(error is each for each in told):
        told.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(map(_tell_place, reversed(told)))


def _tell_place(error: BaseException) -> str:
    kind = type(error)
    return f"{''.join(traceback.format_tb(error.__traceback__))}{kind.__module__}.{kind.__qualname__}\n"


def set_up_logging(level: str = "INFO") -> None:
    """Send every log record of the process to standard error as JSON, ours from `level` on. Called by `__main__` alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=max(logging.INFO, logging.getLevelNamesMapping()[level]), handlers=[handler], force=True)
    logging.getLogger(_OURS).setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
