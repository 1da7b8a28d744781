"""The command `foretell`."""

from foretell.cli.root import main

__all__ = ["main"]
