"""Who may call what: the least role of each method, and the roles that a file gives to the names in certificates.

roles.yaml, read anew when it changes:

viewer: [berta, dashboard]
reviewer: [anna]
publisher: [trainer]
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import yaml

from plumbline.fresh_files import FreshFiles, UnusableFile
from services.common.runtime.behaviours import replace_behaviour
from services.common.runtime.callers import read_proven_name
from services.common.runtime.errors import PermissionDenied
from services.common.runtime.settings import ServiceSettings

log = logging.getLogger(__name__)


class Role(IntEnum):
    """What a caller may do. Each may do what those before it may."""

    VIEWER = 1
    """Ask and look; changes nothing."""
    SUBMITTER = 2
    """Start, feed and end jobs."""
    REVIEWER = 3
    """Decide which critiques train."""
    PUBLISHER = 4
    """Decide which model answers."""


LEAST_ROLES: Mapping[str, Role] = {
    "/plumbline.explainer.v1.ExplainerService/Predict": Role.VIEWER,
    "/plumbline.explainer.v1.ExplainerService/Explain": Role.VIEWER,
    "/plumbline.explainer.v1.ExplainerService/ExplainBatch": Role.VIEWER,
    "/plumbline.explainer.v1.ExplainerService/ExplainUpload": Role.VIEWER,
    "/plumbline.explainer.v1.ExplainerService/ListModels": Role.VIEWER,
    "/plumbline.explainer.v1.ExplainerService/GetShadow": Role.VIEWER,
    "/plumbline.explainer.v1.ExplainerService/PublishModel": Role.PUBLISHER,
    "/plumbline.explainer.v1.ExplainerService/ImportModel": Role.PUBLISHER,
    "/plumbline.explainer.v1.ExplainerService/RollBackModel": Role.PUBLISHER,
    "/plumbline.explainer.v1.ExplainerService/SetShadow": Role.PUBLISHER,
    "/plumbline.lvlm.v1.LvlmService/DescribeBehavior": Role.VIEWER,
    "/plumbline.lvlm.v1.LvlmService/CompileSpecification": Role.VIEWER,
    "/plumbline.lvlm.v1.LvlmService/GroundPhrases": Role.VIEWER,
    "/plumbline.lvlm.v1.LvlmService/ReplayCritiques": Role.VIEWER,
    # With a job's id its answers are that job's critiques.
    "/plumbline.lvlm.v1.LvlmService/TranslateSpecification": Role.SUBMITTER,
    "/plumbline.trainer.v1.TrainerService/GetAlignment": Role.VIEWER,
    "/plumbline.trainer.v1.TrainerService/ListAlignments": Role.VIEWER,
    "/plumbline.trainer.v1.TrainerService/WatchAlignment": Role.VIEWER,
    "/plumbline.trainer.v1.TrainerService/ListCritiques": Role.VIEWER,
    "/plumbline.trainer.v1.TrainerService/ListPictures": Role.VIEWER,
    "/plumbline.trainer.v1.TrainerService/SubmitAlignment": Role.SUBMITTER,
    "/plumbline.trainer.v1.TrainerService/PushCritiques": Role.SUBMITTER,
    "/plumbline.trainer.v1.TrainerService/CancelAlignment": Role.SUBMITTER,
    "/plumbline.trainer.v1.TrainerService/RetryAlignment": Role.SUBMITTER,
    "/plumbline.trainer.v1.TrainerService/RecoverAlignments": Role.SUBMITTER,
    "/plumbline.trainer.v1.TrainerService/ReviewCritiques": Role.REVIEWER,
    "/plumbline.trainer.v1.TrainerService/FinishReview": Role.REVIEWER,
    "/plumbline.trainer.v1.AuditService/ListAuditEvents": Role.VIEWER,
    "/plumbline.trainer.v1.AuditService/VerifyAudit": Role.VIEWER,
    "/plumbline.trainer.v1.AuditService/FindLiveVersion": Role.VIEWER,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.VIEWER,
}
_HEALTH = "/grpc.health.v1.Health/"
"""Open to every certificate: probes have no role."""


def role_interceptors(settings: ServiceSettings) -> list[grpc.aio.ServerInterceptor]:
    """What holds calls to the roles; nothing without TLS, which is what proves a name. `UnusableFile` when the roles can't be read."""
    if settings.tls_roles is None:
        return []
    path, setting = settings.tls_roles, settings.variable("tls_roles")
    return [RoleInterceptor(FreshFiles([path], lambda: read_roles(path, setting)))]


def read_roles(path: Path, setting: str) -> dict[str, Role]:
    """The role of each name in the file at `path`; `UnusableFile`, naming `setting`, when it is no list of names by role."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnusableFile(f"{setting}: {path}: can't be read as YAML") from error
    known = {role.name.lower(): role for role in Role}
    if not isinstance(content, dict) or not content.keys() <= known.keys():
        raise UnusableFile(f"{setting}: {path}: expected lists of names under {', '.join(known)}")
    roles: dict[str, Role] = {}
    for role, names in content.items():
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise UnusableFile(f"{setting}: {path}: {role}: expected a list of names, each a text")
        for name in names:
            if name in roles:
                raise UnusableFile(f"{setting}: {path}: {role}: {name} is named twice")
            roles[name] = known[role]
    return roles


class RoleInterceptor(grpc.aio.ServerInterceptor):
    """Refuses callers whose role is too small, one WARNING each. A method that is in no table is a publisher's; streams are asked when they begin."""

    def __init__(self, roles: FreshFiles[dict[str, Role]]) -> None:
        self._roles = roles

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or details.method.startswith(_HEALTH):
            return handler
        return replace_behaviour(handler, lambda behaviour: partial(self._call, details.method, behaviour))

    def _call(self, method: str, behaviour: Callable[..., Any], request: Any, context: grpc.aio.ServicerContext) -> Any:
        """What `behaviour` returns, be it a coroutine or the answers of a stream."""
        name = read_proven_name(context)
        role, least = self._roles.get().get(name), LEAST_ROLES.get(method, Role.PUBLISHER)
        if role is None or role < least:
            has, needs = role.name.lower() if role else "none", least.name.lower()
            log.warning("call refused", extra={"method": method, "caller": name, "role": has, "least_role": needs})
            raise PermissionDenied(f"{method[1:]}: needs the role {needs} or above; {name!r} has {has}")
        return behaviour(request, context)
