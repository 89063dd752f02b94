"""The command line. `app` is its entry point; one file per group of commands."""

from plumbline.cli.main import app

__all__ = ["app"]
