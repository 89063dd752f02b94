"""Which served model and version a request means."""

from __future__ import annotations

from services.common.runtime.errors import InvalidInput, NotFound, WrongState
from services.explainer.ports import ModelRepository, ServedVersion


def check_known(repository: ModelRepository, name: str, field: str = "name") -> None:
    """Raise `NotFound`, told at `field`, when there is no model `name`."""
    names = repository.names()
    if name not in names:
        raise NotFound(f"{field}: no model '{name}'; there are: {', '.join(names) or 'none'}")


def find_version(repository: ModelRepository, name: str, version: int, digest: str = "") -> ServedVersion:
    """The version asked for; 0 means the champion, an empty digest any.

    Raises
    ------
    InvalidInput
        At `model.name` or `model.version`.
    NotFound
        When there is no such model or version.
    WrongState
        When the version's digest is another one.
    """
    if not name:
        raise InvalidInput("model.name", "empty; expected the name of a served model")
    if version < 0:
        raise InvalidInput("model.version", f"expected 0 (the champion) or a version from 1, got {version}")
    check_known(repository, name, "model.name")
    wanted = version or repository.champion(name)
    served = repository.version(name, wanted)
    if served is None:
        numbers = ", ".join(map(str, repository.numbers(name)))
        raise NotFound(f"model.version: '{name}' has no version {wanted} that can be read; it has {numbers or 'none'}")
    if digest and digest != served.digest:
        raise WrongState(f"model.digest: version {wanted} of '{name}' is {served.digest}, not {digest}")
    return served
