"""What takes a processor runs beside the event loop, one after the other: calls and health go on meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from services.common.runtime.errors import BadModelOutput
from services.common.vision.typed_rules import MaskSource
from services.lvlm.domain import prompts
from services.lvlm.handlers import describing, grounding, replaying, translating
from services.lvlm.handlers.beside import Beside
from services.lvlm.handlers.translating import Translating
from services.lvlm.ports import Question
from tests.support.fakes import ScriptedEngine
from tests.unit.lvlm.test_describing import SEEN, SOUND, describe, profile, writing
from tests.unit.lvlm.test_mask_sources import DIGEST, SPECIFICATION, picture, script, translate


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[bool]]:
    """For each piece of heavy work that was done: whether it was in the event loop's thread."""
    told: dict[str, set[bool]] = {}

    def watch(module: Any, name: str) -> None:
        work = getattr(module, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            told.setdefault(name, set()).add(threading.current_thread() is threading.main_thread())
            return work(*arguments, **named)

        monkeypatch.setattr(module, name, watched)

    watch(prompts, "render_panels")
    watch(translating, "encode_mask")
    watch(translating, "judge_by_regions")
    watch(grounding, "put_together")
    watch(describing, "check_text")
    watch(replaying, "decode_mask")
    return told


async def test_panels_masks_and_regions_are_made_beside_the_loop(seen):
    await translate(ScriptedEngine(script()), MaskSource.AGREED)
    made = {"render_panels", "encode_mask", "judge_by_regions", "put_together"}
    assert seen == {name: {False} for name in made}


async def test_texts_are_checked_beside_the_loop(seen):
    await describe(writing(SOUND))
    assert seen == {"render_panels": {False}, "check_text": {False}}


async def test_stored_masks_are_compared_beside_the_loop(seen):
    engine = ScriptedEngine(script())
    judging = Translating(engine, profile("nano"), None, seed=0)
    shown = [picture()]
    stored = await judging.translate(DIGEST, SPECIFICATION, shown)
    await replaying.Replaying(judging).replay(SPECIFICATION, shown, stored, MaskSource.JUDGED, ())
    assert seen["decode_mask"] == {False}


async def test_a_critic_who_is_asked_again_is_shown_what_was_drawn_once(monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []
    render = prompts.render_panels
    monkeypatch.setattr(prompts, "render_panels", lambda *given: (drawn.append(1), render(*given))[1])
    shown: list[object] = []

    def refuse_twice(question: Question) -> str:
        if not question.images:
            return '{"1":"CORE","2":"CORE","3":"CORE"}'
        shown.append(question.images)
        if len(shown) < 3:
            raise BadModelOutput("no")
        return SEEN

    (critique,) = await translate(ScriptedEngine(refuse_twice), MaskSource.JUDGED)
    assert not critique.failure
    assert (len(drawn), len(shown)) == (1, 3)
    assert shown[0] is shown[1] is shown[2]


async def test_one_piece_is_at_work_at_a_time_in_the_order_they_came():
    beside, at_work, done = Beside(), threading.Lock(), []

    def work(number: int) -> None:
        assert at_work.acquire(blocking=False)
        time.sleep(0.01 / (1 + number))
        done.append(number)
        at_work.release()

    await asyncio.gather(*(beside.run(work, number) for number in range(8)))
    assert done == list(range(8))


async def test_work_that_fails_lets_the_next_begin():
    beside = Beside()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await beside.run(fail)
    assert await beside.run(lambda: "done") == "done"
