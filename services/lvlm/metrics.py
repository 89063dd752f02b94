"""The LVLM service's numbers; `common.runtime.metrics` counts its calls."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

QUESTIONS = Counter(
    "plumbline_lvlm_questions_total",
    "Questions to the engine that ended: ANSWERED, CANCELLED, or the kind of error.",
    ["outcome"],
)
ANSWER_SECONDS = Histogram(
    "plumbline_lvlm_answer_seconds",
    "Time from a question to its answer or refusal, waiting and retries included.",
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160),
)
QUESTIONS_OPEN = Gauge("plumbline_lvlm_questions_open", "Questions that wait for the engine or are being answered.")
BATCH_QUESTIONS = Histogram(
    "plumbline_lvlm_batch_questions",
    "Questions that the model in process answered in one go.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
TOKENS = Counter(
    "plumbline_lvlm_tokens_total", "Tokens of questions and answers, where the engine knows them.", ["direction"]
)
RETRIES = Counter("plumbline_lvlm_retries_total", "Calls to the language model's server that were made again.")
BREAKER_OPEN = Gauge(
    "plumbline_lvlm_breaker_open",
    "1 while the language model's server is let be or tried again after too many failures in a row, else 0.",
)
CRITIQUES = Counter(
    "plumbline_lvlm_critiques_total",
    "Pictures that were judged, or not, as no answer could be read: JUDGED, FAILED.",
    ["outcome"],
)

for _outcome in ("ANSWERED", "BAD_MODEL_OUTPUT", "OVERLOADED", "TIMEOUT", "UNAVAILABLE"):
    QUESTIONS.labels(_outcome)  # rates of what comes later need a zero to begin with
for _outcome in ("JUDGED", "FAILED"):
    CRITIQUES.labels(_outcome)
