"""``npe``: edit photos with a server; keys, receipts, registry and shards. Needs no torch.

Exit status: 0 done, 1 a local file cannot be read or written, 2 wrong usage, 3 the server refused
the request or a policy the promotion, 4 the server failed or could not be reached, 5 the data set
is damaged, 6 a check of a receipt failed, 7 none failed but not everything is proven, 130 canceled
with Ctrl-C.
"""

import argparse
from collections.abc import Callable, Sequence

import neural_photo_editor
from neural_photo_editor.cli.connection import run_on_server
from neural_photo_editor.cli.edit import add_edit_parsers
from neural_photo_editor.cli.keys import add_keys_parser, run_keys
from neural_photo_editor.cli.photos import add_photo_parsers
from neural_photo_editor.cli.registry import add_registry_parser, run_registry
from neural_photo_editor.cli.shards import add_shards_parser, run_shards
from neural_photo_editor.cli.verify import add_verify_parsers, run_verify

_RUNNERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "keys": run_keys,
    "receipt-key": run_verify,
    "registry": run_registry,
    "shards": run_shards,
    "verify": run_verify,
}
"""Commands that ask no server."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    return _RUNNERS.get(options.command, run_on_server)(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npe",
        description="Edit portraits with a running Neural Photo Editor server; check what came "
        "back; manage keys, models and data sets.",
    )
    parser.add_argument(
        "--version", action="version", version=f"npe {neural_photo_editor.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_edit_parsers(commands)
    add_photo_parsers(commands)
    add_verify_parsers(commands)
    add_keys_parser(commands)
    add_registry_parser(commands)
    add_shards_parser(commands)
    return parser
