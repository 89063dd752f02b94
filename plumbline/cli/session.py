"""What every command needs: where the services are, which model is meant, and how failures are told."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from plumbline.certificates import CertificateFiles
from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.fresh_files import UnusableFile
from plumbline.pictures import PictureError
from plumbline.stack.control import find_stack
from plumbline.stack.layout import StackLayout

MAX_NUMBER = 2**31 - 1
"""Of a version, a frame and whatever else messages carry in 32 bits."""

console = Console()
errors = Console(stderr=True)

Model = Annotated[str, typer.Option("--model", "-m", help="Name of the model; needed when several are served.")]
Version = Annotated[
    int, typer.Option("--version", min=0, max=MAX_NUMBER, help="Version of the model; 0 is the champion.")
]


@dataclass(frozen=True)
class Session:
    """Options given before the command: a local stack's state folder, or addresses of services elsewhere."""

    state: Path
    explainer: str = ""
    lvlm: str = ""
    trainer: str = ""

    def stack(self) -> StackLayout:
        """The running local stack, or a `PlumblineError` that says how to start one."""
        layout = find_stack(self.state)
        if layout is None:
            raise PlumblineError(f"no stack serves in {self.state}; start one with `plumbline up`")
        return layout

    def client(self) -> Client:
        """A client for the given addresses, those not given taken from the local stack; under TLS where the environment names certificates."""
        addresses = (self.explainer, self.lvlm, self.trainer)
        if not all(addresses):
            layout = self.stack()
            addresses = (self.explainer or layout.explainer, self.lvlm or layout.lvlm, self.trainer or layout.trainer)
        return Client(*addresses, _user(), CertificateFiles.from_environment("PLUMBLINE_"))


def _user() -> str:
    """Whom the commands say they come from, "" where the machine knows no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def only_model(client: Client) -> str:
    """The name of the one model that is served; `PlumblineError` when it takes a name to tell which."""
    names = sorted({served.model.name for served in client.models()})
    if len(names) != 1:
        raise PlumblineError(f"--model: expected one of {', '.join(names)}" if names else "no model is served")
    return names[0]


@contextmanager
def failures_told() -> Iterator[None]:
    """Print an expected failure in one line and leave with status 1; a bug keeps its stack."""
    try:
        yield
    except typer.Exit:  # a RuntimeError that says nothing
        raise
    except (PlumblineError, PictureError, UnusableFile, RuntimeError, OSError) as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except UnicodeEncodeError as error:
        # What no message can carry, such as an option typed in another encoding than the terminal's.
        errors.print(f"[bold red]error:[/] expected UTF-8, got {escape(ascii(error.object))}", highlight=False)
        raise typer.Exit(1) from error
