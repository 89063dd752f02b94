"""What counts as listening: the loop of a deaf consumer may turn all the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from services.trainer.adapters.pulse import HEARD_S, is_listening


@dataclass
class Channel:
    """When kombu last asked Redis for messages, and whether it may ask for more."""

    asked_s_ago: float
    has_room: bool = True

    @property
    def _brpop_sent_at(self) -> float:
        return time.monotonic() - self.asked_s_ago

    @property
    def qos(self) -> SimpleNamespace:
        return SimpleNamespace(can_consume=lambda: self.has_room)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (Channel(asked_s_ago=0.5), True),
        (Channel(asked_s_ago=HEARD_S + 1), False),
        (Channel(asked_s_ago=HEARD_S + 1, has_room=False), True),
        (SimpleNamespace(), True),
    ],
    ids=["asks", "asks no more", "its hands are full", "another kombu"],
)
def test_a_consumer_listens_while_it_asks_for_messages_or_can_take_no_more(channel, expected):
    assert is_listening(SimpleNamespace(task_consumer=SimpleNamespace(channel=channel))) is expected
