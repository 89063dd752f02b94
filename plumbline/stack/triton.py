"""Triton Inference Server from the `nvidia-pytriton` wheel: how to start it without root or a container.

The local stack starts it as a child; the image runs this module, which becomes Triton:
python -m plumbline.stack.triton --repository DIR --state DIR
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from plumbline.stack.processes import Command

_HOST = "127.0.0.1"
"""Whoever reaches Triton may load a model, and with it code: nobody but the explainer beside it."""


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
            # Ours are complete, and to ask the model itself Triton would start its process once more, imports and all.
            "--disable-auto-complete-config",
            # A version that does not load is the explainer's to tell of; whoever asks for Triton's health would start it anew, and all others with it.
            "--strict-readiness=false",
            f"--http-address={_HOST}",
            f"--http-port={http_port}",
            f"--grpc-address={_HOST}",
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


def main() -> None:
    """Become Triton."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--http-port", type=int, default=8000)
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    command = triton_command(arguments.repository, arguments.state, arguments.grpc_port, arguments.http_port)
    os.execve(command.arguments[0], list(command.arguments), os.environ | dict(command.environment))


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


if __name__ == "__main__":
    main()
