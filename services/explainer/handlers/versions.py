"""Which served version a request means."""

from __future__ import annotations

from services.common.runtime.errors import InvalidInput, NotFound, WrongState
from services.explainer.ports import ModelRepository, ServedVersion


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
    if name not in repository.names():
        raise NotFound(f"model.name: no model '{name}'; there are: {', '.join(repository.names()) or 'none'}")
    wanted = version or repository.champion(name)
    served = repository.version(name, wanted)
    if served is None:
        numbers = ", ".join(map(str, repository.numbers(name)))
        raise NotFound(f"model.version: '{name}' has no version {wanted} that can be read; it has {numbers or 'none'}")
    if digest and digest != served.digest:
        raise WrongState(f"model.digest: version {wanted} of '{name}' is {served.digest}, not {digest}")
    return served
