"""Triton Inference Server from the `nvidia-pytriton` wheel: how to start it on a bare machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from plumbline.stack.processes import Command


def triton_command(repository: Path, state: Path, grpc_port: int, http_port: int) -> Command:
    """The command that serves `repository` on loopback, nothing loaded; `state` receives the backend folder.

    Raises
    ------
    RuntimeError
        When the wheel or the interpreter's shared library is missing; says what to install.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("tritonserver is missing: pip install 'plumbline[local]'")
    wheel = Path(spec.submodule_search_locations[0])
    libraries = Path(sysconfig.get_config_var("LIBDIR"))
    if not any(libraries.glob(f"libpython{_python_version()}.so*")):
        raise RuntimeError(
            f"libpython{_python_version()}.so is missing: Triton's Python backend needs an interpreter built with a shared "
            f"library (Debian: apt install libpython{_python_version()})"
        )
    repository.mkdir(parents=True, exist_ok=True)
    return Command(
        "triton",
        [
            str(wheel / "tritonserver" / "bin" / "tritonserver"),
            f"--backend-directory={_lay_out_backend(wheel, state)}",
            f"--model-repository={repository}",
            "--model-control-mode=explicit",
            "--http-address=127.0.0.1",
            f"--http-port={http_port}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={grpc_port}",
            "--allow-metrics=false",
            "--exit-timeout-secs=5",
            "--log-verbose=0",
        ],
        {
            "LD_LIBRARY_PATH": f"{wheel.parent / 'nvidia_pytriton.libs'}:{libraries}",
            # The stub embeds Python and ignores PYTHONPATH; it takes the environment of the first python3 on the PATH.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        },
    )


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _lay_out_backend(wheel: Path, state: Path) -> Path:
    """The wheel's Python backend with the stub of the running Python beside it, as Triton wants it."""
    folder = state / "backends"
    if not folder.is_dir():
        aside = state / "backends.partial"
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(wheel / "tritonserver" / "backends", aside)
        stub = wheel / "tritonserver" / "python_backend_stubs" / _python_version() / "triton_python_backend_stub"
        shutil.copy2(stub, aside / "python")
        aside.replace(folder)
    return folder
