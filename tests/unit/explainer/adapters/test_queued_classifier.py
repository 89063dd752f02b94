"""Who is answered when, before a model that answers when it is told to."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from services.common.runtime.errors import DeadlineExceeded, Overloaded
from services.explainer.adapters import queued_classifier
from services.explainer.adapters.queued_classifier import BULK_AT_A_TIME, QueuedClassifier
from services.explainer.ports import Inference, Question, ServedVersion

PIXELS = np.zeros((1, 1, 6, 6), dtype=np.float32)
PATIENCE_S = 30.0
IN_BULK, AT_ONCE = Question("GRADIENT", in_bulk=True), Question("GRADIENT")


class ToldClassifier:
    """Holds every call until it is told to answer it."""

    def __init__(self) -> None:
        self.held: list[tuple[str, asyncio.Event]] = []
        self.timeouts_s: list[float] = []
        self.failure: Exception | None = None
        self.is_ready = self.load = self.loaded = self.unload = None

    async def infer(
        self, served: ServedVersion, pixel_values: np.ndarray, timeout_s: float, question: Question | None = None
    ) -> Inference:
        told = ("bulk" if question and question.in_bulk else "at once", asyncio.Event())
        self.held.append(told)
        self.timeouts_s.append(timeout_s)
        try:
            await told[1].wait()
        finally:
            self.held.remove(told)
        if self.failure:
            raise self.failure
        return Inference(np.zeros((len(pixel_values), 2)))

    def computed(self) -> list[str]:
        return [name for name, _ in self.held]

    def answer(self) -> None:
        self.held[0][1].set()


@pytest.fixture
def told() -> ToldClassifier:
    return ToldClassifier()


@pytest.fixture
def ask(told: ToldClassifier):
    queued = QueuedClassifier(told)

    def begin(
        question: Question | None, version: int = 1, timeout_s: float = PATIENCE_S, name: str = "net"
    ) -> asyncio.Task[Inference]:
        served = ServedVersion(name, version, "", ("a", "b"), None, {}, "")
        return asyncio.create_task(queued.infer(served, PIXELS, timeout_s, question))

    return begin


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_few_in_bulk_are_computed_at_a_time_in_the_order_they_came(told: ToldClassifier, ask):
    calls = [ask(IN_BULK) for _ in range(BULK_AT_A_TIME + 2)]
    for left in range(len(calls), 0, -1):
        await settle()
        assert told.computed() == ["bulk"] * min(left, BULK_AT_A_TIME)
        told.answer()
        await calls[len(calls) - left]


@pytest.mark.parametrize("question", [None, AT_ONCE], ids=["predict", "explain"])
async def test_who_asks_at_once_waits_for_nobody_and_bulk_waits_for_them(
    told: ToldClassifier, ask, question: Question | None
):
    bulk = [ask(IN_BULK) for _ in range(BULK_AT_A_TIME + 1)]
    await settle()
    at_once = ask(question)
    await settle()
    assert told.computed() == ["bulk"] * BULK_AT_A_TIME + ["at once"]
    for _ in range(BULK_AT_A_TIME):
        told.answer()
        await settle()
    assert told.computed() == ["at once"]
    told.answer()
    await at_once
    await settle()
    assert told.computed() == ["bulk"]
    told.answer()
    await asyncio.gather(*bulk)


async def test_versions_and_models_do_not_wait_for_one_another(told: ToldClassifier, ask):
    calls = [ask(AT_ONCE, version=1), ask(IN_BULK, version=2), ask(IN_BULK, version=1, name="other")]
    await settle()
    assert told.computed() == ["at once", "bulk", "bulk"]
    for _ in calls:
        told.answer()
        await settle()
    await asyncio.gather(*calls)


async def test_a_turn_that_does_not_come_in_time_is_told_and_leaves_the_queue(told: ToldClassifier, ask):
    at_once = ask(AT_ONCE)
    await settle()
    with pytest.raises(DeadlineExceeded, match="others went first"):
        await ask(IN_BULK, timeout_s=0.05)
    told.answer()
    await at_once
    await settle()
    assert told.computed() == []


async def test_the_wait_takes_of_the_calls_own_time(told: ToldClassifier, ask):
    at_once = ask(AT_ONCE)
    bulk = ask(IN_BULK)
    await asyncio.sleep(0.1)
    told.answer()
    await at_once
    await settle()
    assert told.timeouts_s[1] <= PATIENCE_S - 0.1
    told.answer()
    await bulk


@pytest.mark.parametrize("question", [AT_ONCE, IN_BULK], ids=["at once", "bulk"])
async def test_a_caller_who_leaves_hands_the_turn_on(told: ToldClassifier, ask, question: Question):
    leaving, waiting = ask(question), ask(IN_BULK)
    others = [ask(IN_BULK) for _ in range(2)]
    await settle()
    for gone in (leaving, waiting):
        gone.cancel()
        await settle()
    assert told.computed() == ["bulk", "bulk"]
    for _ in others:
        told.answer()
        await settle()
    await asyncio.gather(*others)


async def test_a_call_too_many_is_refused_by_name_until_one_is_answered(
    told: ToldClassifier, ask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queued_classifier, "MAX_QUEUE", 2)
    calls = [ask(question) for question in (AT_ONCE, None)]
    await settle()
    with pytest.raises(Overloaded, match="2 calls at once for net version 1 have no answer yet"):
        await ask(AT_ONCE)
    other = ask(AT_ONCE, version=2)
    told.answer()
    await calls[0]
    again = ask(AT_ONCE)
    for _ in range(3):
        await settle()
        told.answer()
    await asyncio.gather(*calls, again, other)


async def test_what_waits_in_bulk_leaves_room_for_who_asks_at_once(
    told: ToldClassifier, ask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queued_classifier, "MAX_QUEUE", 3)
    bulk = [ask(IN_BULK) for _ in range(3)]
    await settle()
    with pytest.raises(Overloaded, match="3 calls in bulk for net version 1"):
        await ask(IN_BULK)
    at_once = ask(AT_ONCE)
    await settle()
    assert told.computed() == ["bulk", "bulk", "at once"]
    for _ in (*bulk, at_once):
        told.answer()
        await settle()
    await asyncio.gather(*bulk, at_once)


async def fail(told: ToldClassifier, call: asyncio.Task[Inference]) -> None:
    told.held[-1][1].set()
    await call


async def leave(told: ToldClassifier, call: asyncio.Task[Inference]) -> None:
    call.cancel()
    await call


@pytest.mark.parametrize("question", [AT_ONCE, IN_BULK], ids=["at once", "bulk"])
@pytest.mark.parametrize(("end", "error"), [(fail, ZeroDivisionError), (leave, asyncio.CancelledError)])
async def test_a_call_that_ends_without_an_answer_gives_its_place_back(
    told: ToldClassifier, ask, monkeypatch: pytest.MonkeyPatch, question: Question, end, error
):
    monkeypatch.setattr(queued_classifier, "MAX_QUEUE", 1)
    told.failure = ZeroDivisionError()
    for _ in range(3):
        call = ask(question)
        await settle()
        with pytest.raises(error):
            await end(told, call)


async def test_a_call_whose_turn_does_not_come_in_time_gives_its_place_back(
    told: ToldClassifier, ask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queued_classifier, "MAX_QUEUE", 1)
    at_once = ask(AT_ONCE)
    await settle()
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await ask(IN_BULK, timeout_s=0.01)
    told.answer()
    await at_once


async def test_a_call_in_bulk_that_comes_as_a_turn_is_free_goes_behind_those_who_waited(told: ToldClassifier, ask):
    at_once = ask(AT_ONCE)
    waited = [ask(IN_BULK) for _ in range(BULK_AT_A_TIME)]
    await settle()
    told.answer()
    late = ask(IN_BULK)  # begins in the turn of the loop in which the answer ends
    await settle()
    for call in waited:
        told.answer()
        await asyncio.wait_for(call, PATIENCE_S)
    assert not late.done()
    await settle()
    told.answer()
    await asyncio.gather(at_once, late)


async def test_nothing_is_kept_of_versions_that_nobody_asks_for(told: ToldClassifier):
    queued = QueuedClassifier(told)
    calls = [
        asyncio.create_task(
            queued.infer(ServedVersion("net", version, "", ("a", "b"), None, {}, ""), PIXELS, PATIENCE_S, IN_BULK)
        )
        for version in (1, 2)
    ]
    await settle()
    told.answer()
    calls[1].cancel()
    await asyncio.wait(calls)
    assert not queued._queues


async def test_a_failure_frees_the_turn(told: ToldClassifier, ask):
    told.failure = ZeroDivisionError()
    failing = [ask(IN_BULK) for _ in range(BULK_AT_A_TIME)]
    last = ask(IN_BULK)
    await settle()
    for call in failing:
        told.answer()
        with pytest.raises(ZeroDivisionError):
            await call
    told.failure = None
    await settle()
    assert told.computed() == ["bulk"]
    told.answer()
    await last
