"""The breaker: opens after failures in a row, says when it tries again, and tries with one call."""

import asyncio

import pytest

from services.common.runtime.errors import BadModelOutput, DeadlineExceeded, Unavailable
from services.lvlm.adapters.circuit_breaker import CircuitBreaker, CircuitOpen
from tests.support.clock import Clock

PAUSE_S = 30.0


def fail(breaker: CircuitBreaker, error: BaseException | None = None) -> None:
    error = error or Unavailable("away")
    with pytest.raises(type(error)), breaker.guard():
        raise error


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker("the server", 3, PAUSE_S, clock)
    for _ in range(3):
        fail(breaker)
    return breaker


def refused(breaker: CircuitBreaker) -> CircuitOpen:
    with pytest.raises(CircuitOpen) as caught, breaker.guard():
        pytest.fail("the call went through")
    return caught.value


def test_failures_in_a_row_open_it_and_the_refusal_says_when_it_tries_again():
    clock = Clock(100.0)
    breaker = opened(clock)
    clock.now += 10
    refusal = refused(breaker)
    assert "3 times in a row; it is tried again in 20 s" in refusal.message
    assert refusal.retry_after_s == 20


@pytest.mark.parametrize("sign_of_life", [None, BadModelOutput("refused")])
def test_an_answer_between_failures_starts_the_count_again(sign_of_life: Exception | None):
    breaker = CircuitBreaker("the server", 2, PAUSE_S, Clock())
    for _ in range(3):
        fail(breaker, DeadlineExceeded("late"))
        if sign_of_life:
            fail(breaker, sign_of_life)
        else:
            with breaker.guard():
                pass


def test_one_call_tries_after_the_pause_while_others_are_refused_and_its_success_closes_it():
    clock = Clock(100.0)
    breaker = opened(clock)
    clock.now += PAUSE_S
    with breaker.guard():
        assert "being tried again now" in refused(breaker).message
    with breaker.guard(), breaker.guard():
        pass


def test_a_try_that_fails_opens_it_for_another_pause():
    clock = Clock(100.0)
    breaker = opened(clock)
    clock.now += PAUSE_S
    fail(breaker)
    assert refused(breaker).retry_after_s == PAUSE_S


def test_a_try_whose_caller_left_lets_the_next_call_try():
    clock = Clock(100.0)
    breaker = opened(clock)
    clock.now += PAUSE_S
    fail(breaker, asyncio.CancelledError())
    with breaker.guard():
        pass


def test_calls_that_fail_after_it_opened_do_not_put_the_next_try_off():
    clock = Clock(100.0)
    breaker = CircuitBreaker("the server", 1, PAUSE_S, clock)

    def fail_late() -> None:
        with breaker.guard():
            fail(breaker)
            clock.now += PAUSE_S - 1
            raise Unavailable("away")

    with pytest.raises(Unavailable, match="away"):
        fail_late()
    assert refused(breaker).retry_after_s == 1
