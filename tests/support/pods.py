"""How a container starts by its manifest: arguments, user, settings, and which folders it sees where."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import Mount
from tests.support.manifests import Object, find, list_pods


@dataclass(frozen=True)
class Pod:
    """What the manifest of a deployment with one container says."""

    image: str
    arguments: list[str]
    user: int
    settings: dict[str, str]
    mounts: list[Mount]


def read_pod(objects: Sequence[Object], name: str, volumes: Path, addresses: Mapping[str, str]) -> Pod:
    """The pod of deployment `name`, its volumes as folders below `volumes`: claims shared by all pods, the others its own.

    In settings each address of the manifests is replaced as `addresses` say.
    """
    spec = list_pods(objects)[name]
    (container,) = spec["containers"]
    user = spec["securityContext"]["runAsUser"]
    settings: dict[str, str] = {}
    for source in container.get("envFrom", []):
        settings |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for there, here in addresses.items():
        settings = {variable: value.replace(there, here) for variable, value in settings.items()}
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = []
    for mount in container["volumeMounts"]:
        folder = volumes / claims.get(mount["name"], f"{name}-{mount['name']}")
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user, user)
        mounts.append(Mount(folder, mount["mountPath"], not mount.get("readOnly", False)))
    return Pod(container["image"].rpartition("/")[2], container.get("args", []), user, settings, mounts)
