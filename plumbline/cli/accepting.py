"""`--accept NAME=NUMBER`: what a job's challenger must hold to before it is served."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.errors import PlumblineError
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

NAMES = tuple(trainer_pb.AcceptanceCriteria.DESCRIPTOR.fields_by_name)


def read_criteria(options: Sequence[str]) -> trainer_pb.AcceptanceCriteria:
    """Criteria out of "max_accuracy_drop=0.03" and its like; a `PlumblineError` names the option that can't be read."""
    criteria = trainer_pb.AcceptanceCriteria()
    for option in options:
        name, _, number = option.partition("=")
        if name not in NAMES:
            raise PlumblineError(f"--accept {option}: no criterion '{name}'; expected one of {', '.join(NAMES)}")
        if criteria.HasField(name):
            raise PlumblineError(f"--accept {option}: {name} is given twice")
        try:
            setattr(criteria, name, float(number))
        except ValueError as error:
            raise PlumblineError(f"--accept {option}: expected {name}= and a ratio from 0 to 1") from error
    return criteria
