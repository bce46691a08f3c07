"""The ``npe`` command."""

from neural_photo_editor.cli.command import main

__all__ = ["main"]
