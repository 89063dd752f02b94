"""Any number of pictures in one call: cut by count and bytes, halved where a reply would be too large, faults named by picture."""

import pytest

from plumbline.chunks import in_chunks
from plumbline.client import _ask
from plumbline.errors import PlumblineError

MIB = 2**20


def images(count: int, size_bytes: int = 1) -> list[tuple[str, bytes]]:
    return [(f"{number}.png", bytes(size_bytes)) for number in range(count)]


def size(image: tuple[str, bytes]) -> int:
    return len(image[1])


def test_chunks_keep_the_order_and_both_caps():
    cut = list(in_chunks(images(10, 9 * MIB), 4, size))
    assert [len(chunk) for chunk in cut] == [3, 3, 3, 1]
    assert [name for chunk in cut for name, _ in chunk] == [name for name, _ in images(10)]
    assert [len(chunk) for chunk in in_chunks(images(10), 4, size)] == [4, 4, 2]
    assert [len(chunk) for chunk in in_chunks(images(2, 40 * MIB), 4, size)] == [1, 1]


def test_an_answer_larger_than_a_message_is_asked_in_halves():
    asked: list[int] = []

    def ask(chunk):
        asked.append(len(chunk))
        if len(chunk) > 2:
            raise PlumblineError("too large", "RESOURCE_EXHAUSTED")
        return [name for name, _ in chunk]

    assert _ask(ask, images(7)) == [name for name, _ in images(7)]
    assert max(asked[1:]) < 7


def test_one_picture_that_is_too_large_is_told():
    def ask(chunk):
        raise PlumblineError("too large", "RESOURCE_EXHAUSTED")

    with pytest.raises(PlumblineError, match="too large"):
        _ask(ask, images(3))


def test_a_refused_picture_is_called_by_its_name():
    def ask(chunk):
        raise PlumblineError("explainer: images[1].data: not a picture", "INVALID_ARGUMENT", "images[1].data")

    with pytest.raises(PlumblineError, match=r"^1\.png: ") as caught:
        _ask(ask, images(3))
    assert caught.value.field == "images[1].data"
