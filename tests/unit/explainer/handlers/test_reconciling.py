"""A server that knows nothing is brought to what the repository holds. The repository is real."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from grpc_health.v1 import health, health_pb2

from services.common.runtime.errors import DeadlineExceeded, Unavailable, WrongState
from services.common.runtime.readiness import Readiness
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.reconciling import EXCUSED_S, LONGEST_PAUSE_S, Reconciling
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import LoadLost, ShadowPointer
from tests.support.clock import Clock
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    """Two published models, `one` and `two`."""
    write_bundle(tmp_path / "bundle")
    repository = FolderRepository(tmp_path / "models")
    for name in ("one", "two"):
        repository.set_champion(name, repository.add_version(name, tmp_path / "bundle", "key").version)
    return repository


@pytest.fixture
def classifier() -> InProcessClassifier:
    return InProcessClassifier()


@pytest.fixture
def versions(repository: FolderRepository) -> LiveVersions:
    return LiveVersions(repository)


@pytest.fixture
def readiness() -> Readiness:
    return Readiness(is_ready=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reconciling(
    classifier: InProcessClassifier,
    repository: FolderRepository,
    versions: LiveVersions,
    readiness: Readiness,
    clock: Clock,
) -> Reconciling:
    return Reconciling(classifier, repository, versions, Verifying(classifier, 5), readiness, clock)


@pytest.fixture
async def told(readiness: Readiness) -> list[bool]:
    """What health says of the service, each time that it is said."""

    class Servicer(health.aio.HealthServicer):
        async def set(self, service: str, status: int) -> None:
            said.append(status == health_pb2.HealthCheckResponse.SERVING)

    said: list[bool] = []
    await readiness.attach(Servicer(), ["service"])
    return said


def fail_on(name: str, error: Exception):
    def on_load(asked: str) -> None:
        if asked == name:
            raise error

    return on_load


async def names_loaded(reconciling: Reconciling) -> list[str]:
    return [served.name for served in await reconciling.reconcile()]


async def test_fresh_server_gets_every_published_model_once(reconciling):
    assert await names_loaded(reconciling) == ["one", "two"]
    assert await reconciling.reconcile() == []


async def test_model_without_a_champion_is_left_alone(reconciling, repository, tmp_path):
    repository.add_version("unfinished", tmp_path / "bundle", "key")
    assert await names_loaded(reconciling) == ["one", "two"]


async def test_version_that_is_being_published_is_its_publishers_to_load(reconciling, repository, tmp_path):
    await reconciling.reconcile()
    repository.add_version("one", tmp_path / "bundle", "next")
    assert await reconciling.reconcile() == []


async def test_shadow_above_the_champion_is_loaded_too(reconciling, repository, classifier, tmp_path):
    await reconciling.reconcile()
    shadow = repository.add_version("one", tmp_path / "bundle", "next", as_shadow=True).version
    repository.set_shadow("one", ShadowPointer().moved_to_new(shadow))
    assert await names_loaded(reconciling) == ["one"]
    assert await classifier.is_ready("one", shadow)


async def test_fresh_server_gets_champions_first_then_shadows_then_the_newest(reconciling, repository, tmp_path):
    for number in (2, 3, 4, 5):
        repository.add_version("one", tmp_path / "bundle", f"key-{number}")
    repository.set_champion("one", 4)
    repository.set_shadow("one", ShadowPointer().moved_to(2))
    rounds = [[(served.name, served.version) for served in await reconciling.reconcile()] for _ in range(4)]
    # One that is no champion in each, for a champion may change while old versions load.
    assert rounds == [[("one", 4), ("two", 1), ("one", 2)], [("one", 3)], [("one", 1)], []]


NOT_ALIVE = [WrongState("broken"), RuntimeError("a bug"), LoadLost("its process died"), DeadlineExceeded("too long")]
NOT_ALIVE_IDS = ["refused", "bug", "died", "too long"]


@pytest.mark.parametrize("error", NOT_ALIVE, ids=NOT_ALIVE_IDS)
async def test_old_versions_that_do_not_come_to_life_keep_no_other_from_being_loaded(
    reconciling, repository, classifier, clock, tmp_path, error
):
    for number in (2, 3, 4, 5):
        repository.add_version("one", tmp_path / "bundle", f"key-{number}")
    repository.set_champion("one", 5)
    load = classifier.load

    async def fail_on_two(served, bundle):
        if served.version in (3, 4):
            raise error
        await load(served, bundle)

    classifier.load = fail_on_two
    for clock.now in range(0, 10 * int(LONGEST_PAUSE_S), int(LONGEST_PAUSE_S)):  # all are due each time
        await reconciling.reconcile()
    assert [await classifier.is_ready("one", number) for number in (1, 2, 3, 4, 5)] == [True, True, False, False, True]


async def test_old_version_that_fails_does_not_keep_its_model_from_being_served(
    reconciling, repository, classifier, tmp_path
):
    repository.set_champion("one", repository.add_version("one", tmp_path / "bundle", "next").version)
    (tmp_path / "models" / "one" / "1" / "bundle" / "model.safetensors").write_bytes(b"")
    await reconciling.reconcile()
    assert [await classifier.is_ready("one", number) for number in (1, 2)] == [False, True]


@pytest.mark.parametrize("refused", [1, 2], ids=["an old one", "the champion"])
async def test_version_that_is_refused_is_tried_at_ever_longer_pauses(
    reconciling, repository, classifier, clock, tmp_path, refused
):
    repository.set_champion("one", repository.add_version("one", tmp_path / "bundle", "next").version)
    tried_at: list[float] = []
    load = classifier.load

    async def refuse(served, bundle):
        if (served.name, served.version) == ("one", refused):
            tried_at.append(clock.now)
            raise WrongState("broken")
        await load(served, bundle)

    classifier.load = refuse
    for clock.now in range(300):
        await reconciling.reconcile()
    assert tried_at == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    classifier.load = load
    clock.now = 243 + LONGEST_PAUSE_S
    assert await names_loaded(reconciling) == ["one"]


async def test_version_that_is_refused_for_days_is_tried_each_minute(reconciling, classifier, clock):
    tries: list[str] = []

    def refuse(name: str) -> None:
        if name == "one":
            tries.append(name)
            raise WrongState("broken")

    classifier.on_load = refuse
    for minute in range(2000):
        clock.now = minute * LONGEST_PAUSE_S
        await reconciling.reconcile()
    assert len(tries) == 2000


async def test_version_that_came_to_life_is_not_excused_for_what_was_before_when_it_is_lost(
    reconciling, classifier, told, clock
):
    classifier.on_load = fail_on("one", WrongState("no memory"))
    await reconciling.reconcile()
    classifier.on_load = lambda name: None
    clock.now = 1
    assert await names_loaded(reconciling) == ["one"]
    await reconciling.reconcile()
    await classifier.unload("one", 1)
    clock.now = 2 * EXCUSED_S
    classifier.on_load = fail_on("one", WrongState("no memory"))
    await reconciling.reconcile()
    assert told == [False, True, False]


async def test_server_that_is_away_is_tried_each_round(reconciling, classifier, clock):
    classifier.on_load = fail_on("one", Unavailable("away"))
    for clock.now in range(20):
        await reconciling.reconcile()
    classifier.on_load = lambda name: None
    assert await names_loaded(reconciling) == ["one"]


@pytest.mark.parametrize("error", [WrongState("broken"), RuntimeError("a bug")], ids=["refused", "bug"])
async def test_model_that_fails_does_not_keep_the_others_from_being_served(reconciling, classifier, error):
    classifier.on_load = fail_on("one", error)
    assert await names_loaded(reconciling) == ["two"]


async def test_version_folder_without_files_does_not_keep_the_others_from_being_served(reconciling, tmp_path):
    (tmp_path / "models" / "one" / "1" / "publication.json").unlink()
    (tmp_path / "models" / "one" / "1" / "bundle" / "config.json").write_text("{")
    assert await names_loaded(reconciling) == ["two"]


async def test_replica_is_ready_once_it_has_the_champions_and_does_not_wait_for_old_versions(
    reconciling, repository, classifier, told, tmp_path
):
    repository.set_champion("one", repository.add_version("one", tmp_path / "bundle", "next").version)
    seen = []
    classifier.on_load = lambda name: seen.append(told[-1])
    await reconciling.reconcile()
    assert seen == [False, False, True]
    assert told[-1]


async def test_replica_whose_server_is_away_is_not_ready_until_it_is_back(reconciling, classifier, told):
    await reconciling.reconcile()
    for name in ("one", "two"):
        await classifier.unload(name, 1)
    classifier.on_load = fail_on("one", Unavailable("away"))
    await reconciling.reconcile()
    classifier.on_load = lambda name: None
    await reconciling.reconcile()
    assert told == [False, True, False, True]


@pytest.mark.parametrize("error", NOT_ALIVE, ids=NOT_ALIVE_IDS)
async def test_replica_whose_server_refuses_a_champion_leaves_callers_to_others_for_a_while_and_not_for_ever(
    reconciling, classifier, told, clock, error
):
    classifier.on_load = fail_on("one", error)
    await reconciling.reconcile()
    clock.now = EXCUSED_S - 1
    await reconciling.reconcile()
    assert told == [False]
    clock.now = EXCUSED_S
    await reconciling.reconcile()
    assert told == [False, True]


async def test_replica_whose_server_refuses_everything_is_never_ready(reconciling, classifier, told, clock):
    def refuse(name: str) -> None:
        raise WrongState("broken")

    classifier.on_load = refuse
    await reconciling.reconcile()
    clock.now = 10 * EXCUSED_S
    await reconciling.reconcile()
    assert told == [False]


async def test_model_that_is_new_takes_no_replica_out_of_service_while_it_loads(
    reconciling, repository, classifier, told, tmp_path
):
    await reconciling.reconcile()
    repository.set_champion("three", repository.add_version("three", tmp_path / "bundle", "key").version)
    classifier.on_load = fail_on("three", Unavailable("away"))
    await reconciling.reconcile()
    assert told == [False, True]
    classifier.on_load = lambda name: None
    await reconciling.reconcile()
    assert told == [False, True]


async def test_version_that_another_replica_took_out_is_let_go_and_one_that_is_being_published_stays(
    reconciling, repository, classifier, tmp_path
):
    await reconciling.reconcile()
    for key in ("stray", "next"):
        added = repository.add_version("one", tmp_path / "bundle", key)
        await classifier.load(added, repository.bundle("one", added.version))
    repository.remove_version("one", 2)
    await reconciling.reconcile()
    assert sorted(await classifier.loaded()) == [("one", 1), ("one", 3), ("two", 1)]


async def test_model_whose_pointer_cannot_be_read_keeps_no_stray_of_another(
    reconciling, repository, classifier, tmp_path
):
    await reconciling.reconcile()
    (tmp_path / "models" / "one" / "champion.json").write_text("")
    stray = repository.add_version("two", tmp_path / "bundle", "stray")
    await classifier.load(stray, repository.bundle("two", 2))
    repository.remove_version("two", 2)
    await reconciling.reconcile()
    assert sorted(await classifier.loaded()) == [("one", 1), ("two", 1)]


async def test_nothing_is_let_go_of_a_model_that_has_no_champion(reconciling, repository, classifier, tmp_path):
    added = repository.add_version("first", tmp_path / "bundle", "key")
    await classifier.load(added, repository.bundle("first", 1))
    repository.remove_version("first", 1)
    await reconciling.reconcile()
    assert await classifier.is_ready("first", 1)


async def test_replica_without_models_is_ready(reconciling, repository, told):
    for name in ("one", "two"):
        repository.remove_version(name, 1)
    await reconciling.reconcile()
    assert told == [False, True]


async def test_what_another_replica_published_is_answered_here_once_it_is_loaded_and_the_one_before_until_then(
    reconciling, repository, classifier, versions, told, tmp_path
):
    await reconciling.reconcile()
    published = repository.add_version("one", tmp_path / "bundle", "next").version
    repository.set_champion("one", published)
    seen = []
    classifier.on_load = lambda name: seen.append(versions.find("one", 0).version)
    assert versions.find("one", 0).version == 1
    await reconciling.reconcile()
    assert seen == [1]
    assert versions.find("one", 0).version == published
    assert told == [False, True]


async def test_champion_that_cannot_be_read_leaves_the_one_before_in_its_place(
    reconciling, repository, versions, told, tmp_path
):
    await reconciling.reconcile()
    published = repository.add_version("one", tmp_path / "bundle", "next").version
    (repository.bundle("one", published) / "config.json").write_text("{")
    repository.set_champion("one", published)
    await reconciling.reconcile()
    assert versions.find("one", 0).version == 1
    assert told == [False, True]


async def test_champion_that_another_process_loaded_into_the_same_server_is_verified_and_not_loaded_again(
    reconciling, repository, classifier, versions, tmp_path
):
    await reconciling.reconcile()
    published = repository.add_version("one", tmp_path / "bundle", "next")
    repository.set_champion("one", published.version)
    await classifier.load(published, repository.bundle("one", published.version))
    classifier.on_load = fail_on("one", WrongState("loaded again"))
    assert await reconciling.reconcile() == [published]
    assert versions.find("one", 0) == published
    assert await reconciling.reconcile() == []


async def test_server_that_answers_otherwise_than_the_bundle_answers_nobody(
    reconciling, repository, classifier, versions, told, tmp_path
):
    await reconciling.reconcile()
    published = repository.add_version("one", tmp_path / "bundle", "next").version
    repository.set_champion("one", published)
    classifier.shift = 0.1
    assert await reconciling.reconcile() == []
    assert not await classifier.is_ready("one", published)
    assert versions.find("one", 0).version == 1


async def test_fresh_replica_whose_server_answers_otherwise_is_not_ready(reconciling, classifier, told, clock):
    classifier.shift = 0.1
    await reconciling.reconcile()
    clock.now = EXCUSED_S + 1
    await reconciling.reconcile()
    assert told == [False]
    assert await classifier.loaded() == []


async def test_what_a_service_before_had_loaded_is_let_go_if_it_answers_otherwise(
    reconciling, repository, classifier, versions
):
    for name in ("one", "two"):
        await classifier.load(repository.version(name, 1), repository.bundle(name, 1))
    classifier.shift = 0.1
    assert await reconciling.reconcile() == []
    assert await classifier.loaded() == []


async def test_bundle_that_was_changed_after_its_publication_is_not_served(
    reconciling, repository, classifier, versions, tmp_path
):
    write_bundle(tmp_path / "other", seed=1)
    weights = repository.bundle("one", 1) / "model.safetensors"
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    assert await names_loaded(reconciling) == ["two"]
    assert await classifier.loaded() == [("two", 1)]


async def test_server_that_goes_away_while_a_version_is_verified_is_tried_each_round(reconciling, classifier):
    infer = classifier.infer

    async def go_away(*asked):
        raise Unavailable("away")

    classifier.infer = go_away
    assert await names_loaded(reconciling) == []
    classifier.infer = infer
    assert await names_loaded(reconciling) == ["one", "two"]


async def test_loop_goes_on_after_a_fault_of_any_kind(reconciling, classifier, tmp_path):
    pointer = tmp_path / "models" / "one" / "champion.json"
    whole = pointer.read_bytes()
    pointer.write_text("{")
    loop = asyncio.create_task(reconciling.keep(interval_s=0.01))
    await until_ready(classifier, "two")
    pointer.write_bytes(whole)
    await until_ready(classifier, "one")
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop


async def until_ready(classifier: InProcessClassifier, name: str) -> None:
    async with asyncio.timeout(10):
        while not await classifier.is_ready(name, 1):
            await asyncio.sleep(0.01)
