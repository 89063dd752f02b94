"""Foreign words in a prompt: what an expert writes, a class is called or a language model has said is data, never structure."""

from __future__ import annotations

import json
import re

_MARK_START = re.compile(r"<(?=[^\s\d=])|\[(?=/?[A-Za-z_]+\])")
"""Where a chat template's mark may begin: <image>, <|im_start|>, </s>, [INST]. "p <0.05" and "<= 3" are no marks."""


def as_line(text: str) -> str:
    """`text` on one line, its white space single, its chat marks broken up: it can't end its line or its turn."""
    return break_marks(" ".join(text.split()))


def as_json(text: str) -> str:
    """`text` as a JSON string with its quotes, its chat marks broken up: it can't end its quotation."""
    lines = "\n".join(text.strip().splitlines())  # whatever ends a line becomes an escaped \n
    return json.dumps(break_marks(lines), ensure_ascii=False)


def break_marks(text: str) -> str:
    """`text` with a space inside whatever looks like a special token. A server's tokenizer is not known here, so the look decides;
    an engine that knows its tokenizer breaks up its very tokens besides.
    """
    return _MARK_START.sub(lambda found: f"{found[0]} ", text)
