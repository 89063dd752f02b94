"""Which served model and version a request means.

Each replica has an inference server of its own, and all share the champion pointer, which moves before every server has loaded the new version. Until this
replica's has, its requests go on to the champion before.
"""

from __future__ import annotations

from services.common.runtime.errors import InvalidInput, NotFound, WrongState
from services.explainer.ports import ModelRepository, ServedVersion


def check_known(repository: ModelRepository, name: str, field: str = "name") -> None:
    """Raise `NotFound`, told at `field`, when there is no model `name`."""
    names = repository.names()
    if name not in names:
        raise NotFound(f"{field}: no model '{name}'; there are: {', '.join(names) or 'none'}")


class LiveVersions:
    """Finds versions for requests; knows which champions this replica's inference server has loaded."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository
        self._loaded_champions: dict[str, int] = {}

    def see_champion(self, name: str, version: int) -> None:
        """`version` is the champion and answers here: from now on requests that name no version reach it, or one that was seen with a higher number.

        Champions' numbers only grow, and who looked before the pointer moved may tell after it.
        """
        self._loaded_champions[name] = max(version, self._loaded_champions.get(name, 0))

    def has_seen(self, name: str) -> bool:
        """Whether a champion of the model ever answered here."""
        return name in self._loaded_champions

    def champion(self, name: str) -> int:
        """The version that requests without one reach here: the champion, or the one before while that loads; 0 when there is none."""
        seen, champion = self._loaded_champions.get(name, 0), self._repository.champion(name)
        # Above the pointer only where somebody put an older repository in its place.
        return seen if 0 < seen <= champion else champion

    def find(self, name: str, version: int, digest: str = "") -> ServedVersion:
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
        check_known(self._repository, name, "model.name")
        wanted = version or self.champion(name)
        served = self._repository.version(name, wanted)
        if not version and digest and (served is None or served.digest != digest):
            # Who names the weights of a champion that loads here has to wait for it; they are not wrong.
            wanted = self._repository.champion(name)
            served = self._repository.version(name, wanted)
        if served is None:
            numbers = ", ".join(map(str, self._repository.numbers(name)))
            raise NotFound(
                f"model.version: '{name}' has no version {wanted} that can be read; it has {numbers or 'none'}"
            )
        if digest and digest != served.digest:
            raise WrongState(f"model.digest: version {wanted} of '{name}' is {served.digest}, not {digest}")
        return served
