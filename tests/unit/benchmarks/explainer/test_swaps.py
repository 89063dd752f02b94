"""Whether the benchmark of swaps notices an answer in another version's name."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.explainer.swaps import Asking
from plumbline.explainer.v1 import explainer_service_pb2 as pb

FIRST, SECOND = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[0.3, 0.7], [0.4, 0.6]])


class Answering:
    """Says of every picture what it was told to, in a version's name."""

    def __init__(self, version: int, digest: str, probabilities: np.ndarray) -> None:
        model = {"name": "net", "version": version, "digest": digest}
        self.reply = pb.ExplainResponse(
            model=model, explanations=[{"prediction": {"probabilities": probabilities.tolist()}}]
        )

    def explain(self, name: str, method: str, files: list[bytes]) -> pb.ExplainResponse:
        return self.reply


@pytest.mark.parametrize(
    ("version", "digest", "says", "is_own"),
    [
        (1, "a", FIRST[1], True),
        (2, "b", SECOND[1], True),
        (2, "b", FIRST[1], False),
        (2, "a", SECOND[1], False),
        (3, "c", FIRST[1], False),
        (1, "a", FIRST[0], False),
    ],
)
def test_an_answer_is_a_versions_own_only_under_its_number_its_digest_and_with_its_probabilities(
    version, digest, says, is_own
):
    asking = Asking(Answering(version, digest, says), [b"one", b"two"])
    asking.expect(1, "a", FIRST)
    asking.expect(2, "b", SECOND)
    answer = asking.ask(3)
    assert (answer.code, answer.version, answer.is_own) == ("OK", version, is_own)


def test_versions_that_say_the_same_of_a_picture_are_refused_for_their_answers_could_not_be_told_apart():
    asking = Asking(Answering(1, "a", FIRST[0]), [b"one", b"two"])
    asking.expect(1, "a", FIRST)
    with pytest.raises(RuntimeError, match="versions 1 and 2"):
        asking.expect(2, "b", np.stack([SECOND[0], FIRST[1]]))
