"""Images without a container engine: a Dockerfile's steps run as they stand, each stage in a root of its own, made of mounts.

The base image is stood in for by a folder with its programs and libraries, this machine's unless another is named, and by the Python that runs this.
Needs root, for `mount` and `chroot`; what is mounted is seen by the command alone and goes with it. Not had: the network of a pod, its devices,
its limits, its seccomp profile.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.dockerfile import ROOT, Stage, Step, read_dockerfile

_FROM_BASE = ("bin", "lib", "lib64", "sbin", "usr")
_FROM_KERNEL = ("dev", "proc", "sys")
_OWN = ("etc", "home", "opt", "run", "src", "tmp", "var")
"""What each stage has a copy of. The build's WORKDIR is among them."""
_NEW_ROOT = "/mnt"
_PYTHON = Path(sys.base_prefix)
_BASE_ENVIRONMENT = {
    "PATH": f"{_PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
}
_STEP_TIMEOUT_S = 1200.0


@dataclass(frozen=True)
class Mount:
    """A folder and where a command sees it."""

    source: Path
    target: str
    is_writable: bool = False


@dataclass(frozen=True)
class Image:
    """What a Dockerfile came to: the files of its last stage, and how a container of it starts."""

    files: Path
    base: Path
    stage: Stage

    def command(
        self, arguments: Sequence[str], environment: Mapping[str, str], mounts: Sequence[Mount], user: int
    ) -> list[str]:
        """The words that start a container as `user`, with nothing writable but what is mounted so."""
        for mount in mounts:  # an engine makes places for mounts in the image's files, too
            (self.files / mount.target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        own = [Mount(self.files / name, f"/{name}") for name in _OWN]
        variables = self.stage.environment(_BASE_ENVIRONMENT) | dict(environment)
        return enter(self.base, [*own, *mounts], [*self.stage.entrypoint(), *arguments], variables, user=user)

    def run(self, *words: str) -> str:
        """What a command prints in a container without mounts or rights."""
        own = [Mount(self.files / name, f"/{name}") for name in _OWN]
        variables = self.stage.environment(_BASE_ENVIRONMENT)
        return _run(enter(self.base, own, words, variables, user=10001))


class Builder:
    """Builds images below `work`, on `base`. What two files have in common before their first COPY is done once, as in an engine's cache."""

    def __init__(self, work: Path, base: Path) -> None:
        self._work = work
        self._base = base
        self._kept: dict[tuple[Step, ...], Path] = {}

    def build(self, name: str, dockerfile: Path) -> Image:
        """The image of `dockerfile`; AssertionError with the output of the step that failed."""
        stages: dict[str, Path] = {}
        for stage in read_dockerfile(dockerfile):
            files = self._work / name / (stage.name or "last")
            self._run_stage(stage, files, stages)
            stages[stage.name] = files
        return Image(files, self._base, stage)

    def _run_stage(self, stage: Stage, files: Path, earlier: Mapping[str, Path]) -> None:
        count = next((index for index, step in enumerate(stage.steps) if step.keyword == "COPY"), 0)
        shared = tuple(stage.steps[:count])
        if shared in self._kept:
            _copy(self._kept[shared], files)
        else:
            for name in _OWN:
                (files / name).mkdir(parents=True)
            _copy(self._base / "etc", files / "etc")
            _copy(Path("/etc/resolv.conf").resolve(), files / "etc" / "resolv.conf")
            self._run_steps(stage, shared, files, earlier)
            self._kept[shared] = self._work / f"kept-{len(self._kept)}"
            _copy(files, self._kept[shared])
        self._run_steps(stage, stage.steps[count:], files, earlier)

    def _run_steps(self, stage: Stage, steps: Sequence[Step], files: Path, earlier: Mapping[str, Path]) -> None:
        folder = next(iter(stage.texts("WORKDIR")), "/")
        for step in steps:
            if step.keyword == "RUN":
                own = [Mount(files / name, f"/{name}", is_writable=True) for name in _OWN]
                variables = _BASE_ENVIRONMENT | _pip_settings() | stage.arguments()
                words = ["sh", "-e", "-c", step.text]
                _run(enter(self._base, [*own, *_pip_folders()], words, variables, folder=folder))
            elif step.keyword == "COPY":
                *sources, target = shlex.split(step.text)
                _copy_into(files, folder, sources, target, earlier)


def enter(
    base: Path,
    mounts: Sequence[Mount],
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: str = "/",
    user: int = 0,
) -> list[str]:
    """The words that run `words` as `user` where nothing is but the programs of `base`, this Python and `mounts`.

    The process that they start becomes that command, so signals reach it.
    """
    lines = ["set -e", f"mount -t tmpfs -o mode=755 root {_NEW_ROOT}"]
    for name in _FROM_BASE:
        source = base / name
        if source.is_symlink():
            lines.append(f"ln -s {shlex.quote(str(source.readlink()))} {_NEW_ROOT}/{name}")
        elif source.is_dir():
            lines += _bind(Mount(source, f"/{name}"))
    lines += [f"mkdir {_NEW_ROOT}/{name}; mount --rbind /{name} {_NEW_ROOT}/{name}" for name in _FROM_KERNEL]
    pythons = [] if Path("/usr") == _PYTHON else [Mount(_PYTHON, str(_PYTHON))]
    for mount in sorted([*pythons, *mounts], key=lambda mount: len(Path(mount.target).parts)):
        lines += _bind(mount)
    lines.append(f"mount -o remount,ro {_NEW_ROOT}")
    command = ["setpriv", "--pdeathsig", "KILL"]
    if user:
        command += ["--reuid", str(user), "--regid", str(user), "--clear-groups"]
        command += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    variables = [f"{name}={value}" for name, value in environment.items()]
    goal = ["chroot", _NEW_ROOT, "env", "-i", "-C", folder, *variables, *command, *words]
    lines.append(f"exec {shlex.join(goal)}")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]


def size_mb(folder: Path) -> int:
    """What the files below a folder take on disk, MB."""
    return round(sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6)


def _bind(mount: Mount) -> list[str]:
    source, target = shlex.quote(str(mount.source)), shlex.quote(_NEW_ROOT + mount.target)
    lines = [f"mkdir -p {target}", f"mount --bind {source} {target}"]
    return lines if mount.is_writable else [*lines, f"mount -o remount,ro,bind {target}"]


def _copy(source: Path, target: Path, *, is_linked: bool = False) -> None:
    """A copy; `is_linked` for what nobody changes any more, which then takes no room."""
    target.parent.mkdir(parents=True, exist_ok=True)
    how = "--link" if is_linked else "--reflink=auto"
    subprocess.run(["cp", "-a", how, f"{source}/." if source.is_dir() else str(source), str(target)], check=True)


def _copy_into(files: Path, folder: str, sources: Sequence[str], target: str, earlier: Mapping[str, Path]) -> None:
    """A COPY of this repository's files, without those that git ignores, or of what an earlier stage made."""
    place = files / (Path(folder) / target).relative_to("/")
    if sources[0].startswith("--from="):
        (made,) = sources[1:]
        _copy(earlier[sources[0].removeprefix("--from=")] / Path(made).relative_to("/"), place, is_linked=True)
        return
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *sources]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), listed):
        # A folder's content goes below the target, a file goes into it.
        source = next(source for source in sources if name == source or name.startswith(f"{source}/"))
        copied = place / (Path(name).name if name == source else Path(name).relative_to(source))
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copied)


def _run(words: Sequence[str]) -> str:
    ended = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_STEP_TIMEOUT_S, check=False
    )
    assert ended.returncode == 0, f"{words[-1].splitlines()[-1]}\n{ended.stdout[-4000:]}"
    return ended.stdout


def _pip_settings() -> dict[str, str]:
    """This machine's way to the package index, as variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {
        f"PIP_{key.replace('-', '_').upper()}": value
        for key, value in re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE)
    }
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return settings | proxies


def _pip_folders() -> list[Mount]:
    """Folders of this machine with what pip's settings name: wheels, certificates."""
    named = re.findall(r"(?:^|\s|file://)(/[^\s]+)", "\n".join(_pip_settings().values()))
    folders = {Path(*Path(path).parts[:3]) for path in named if Path(path).exists()}
    return [Mount(folder, str(folder)) for folder in sorted(folders)]
