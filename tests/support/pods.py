"""How the containers of a pod start by its manifest: arguments, user, settings, and which folders they see where."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import Mount
from tests.support.manifests import Object, find, list_containers, list_pods


@dataclass(frozen=True)
class Container:
    """What the manifest says of one."""

    image: str
    arguments: list[str]
    user: int
    settings: dict[str, str]
    mounts: list[Mount]


def read_pod(objects: Sequence[Object], name: str, volumes: Path, addresses: Mapping[str, str]) -> dict[str, Container]:
    """The containers of deployment `name` in the order of their starts, its volumes as folders below `volumes`: claims shared by all pods, the others its own.

    In settings each address of the manifests is replaced as `addresses` say.
    """
    spec = list_pods(objects)[name]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    folders = {
        volume["name"]: volumes / claims.get(volume["name"], f"{name}-{volume['name']}") for volume in spec["volumes"]
    }
    user = spec["securityContext"]["runAsUser"]
    return {each["name"]: _read_container(objects, each, user, folders, addresses) for each in list_containers(spec)}


def _read_container(
    objects: Sequence[Object], container: Object, user: int, folders: Mapping[str, Path], addresses: Mapping[str, str]
) -> Container:
    settings: dict[str, str] = {}
    for source in container.get("envFrom", []):
        settings |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for there, here in addresses.items():
        settings = {variable: value.replace(there, here) for variable, value in settings.items()}
    mounts = []
    for mount in container["volumeMounts"]:
        folder = folders[mount["name"]]
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user, user)
        mounts.append(Mount(folder, mount["mountPath"], not mount.get("readOnly", False)))
    return Container(container["image"].rpartition("/")[2], container.get("args", []), user, settings, mounts)
