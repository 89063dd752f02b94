"""Plain sentences to typed rules for a person to confirm."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from services.common.runtime.errors import BadModelOutput, Unsupported
from services.common.vision.typed_rules import TypedRule
from services.lvlm.domain.compiling import (
    ClassSentences,
    Reading,
    answer_schema,
    check_readings,
    check_request,
    read_rules,
)
from services.lvlm.domain.prompts import COMPILE, PromptProfile
from services.lvlm.handlers.attempts import ATTEMPT_COUNT
from services.lvlm.handlers.together import all_or_none
from services.lvlm.ports import Engine, Question

log = logging.getLogger(__name__)


class Compiling:
    """Reads what experts say of the classes of a model."""

    def __init__(self, engine: Engine, profile: PromptProfile, seed: int) -> None:
        self._engine = engine
        self._profile = profile
        self._seed = seed

    async def compile(
        self, task: str, class_names: Sequence[str], sentences: Sequence[ClassSentences]
    ) -> list[TypedRule]:
        """Rules of all classes, in the order of the sentences; at least one for each.

        Raises
        ------
        InvalidInput
            With all faults at once: of the request, before anything is asked; then of every class that has no rule, contradicts itself or what
            is said of all, or whose sentences got no answer that can be read however often they were asked about.
        Unsupported
            When the profile has no prompt for it.
        Unavailable, DeadlineExceeded, Overloaded, WrongState
            When the engine is away.
        """
        check_request(task, class_names, sentences)
        if COMPILE not in self._profile.prompts:
            raise Unsupported(f"the prompt profile '{self._profile.name}' has no prompt '{COMPILE}'")
        readings = await all_or_none(self._read(task, told) for told in sentences)
        check_readings(sentences, readings)
        return [rule for reading in readings for rule in reading.rules]

    async def _read(self, task: str, told: ClassSentences) -> Reading:
        failure = ""
        for attempt in range(ATTEMPT_COUNT):
            try:
                return Reading(read_rules(await self._ask(task, told, attempt), told))
            except BadModelOutput as error:
                failure = error.message
                log.info("no rules", extra={"attempt": attempt})
        return Reading((), f"the language model was asked {ATTEMPT_COUNT} times; last: {failure}")

    async def _ask(self, task: str, told: ClassSentences, attempt: int) -> str:
        return await self._engine.answer(
            Question(
                self._profile.render_text(COMPILE, task=task, class_name=told.class_name, text=told.text),
                max_new_tokens=self._profile.prompts[COMPILE].max_new_tokens,
                schema=answer_schema(told.text),
                seed=self._seed,
                attempt=attempt,
            )
        )
