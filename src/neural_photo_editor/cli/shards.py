"""``npe shards``: check and show a data set of shards. Needs the training packages but no torch."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXIT_OK = 0
EXIT_FILE = 1
EXIT_DAMAGED = 5


def add_shards_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``shards verify`` and ``shards show`` to the command line."""
    shards = commands.add_parser("shards", help="check or show a data set made of shards")
    actions = shards.add_subparsers(dest="action", required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("folder", metavar="DIR", help="folder with manifest.json, or s3://...")

    verify = actions.add_parser(
        "verify", parents=[shared], help="compare every shard with the manifest"
    )
    verify.set_defaults(run=_verify)

    show = actions.add_parser("show", parents=[shared], help="make a picture of samples")
    show.add_argument("-o", "--output", type=Path, default=Path("contact_sheet.png"), help="PNG")
    show.add_argument("--split", choices=("train", "val", "test"), help="samples of this split")
    show.add_argument(
        "--near-duplicates", action="store_true", help="samples that look like another one"
    )
    show.add_argument("--count", type=int, default=32, help="samples at most (%(default)s)")
    show.add_argument("--columns", type=int, default=4, help="samples side by side (%(default)s)")
    show.add_argument("--tile", type=int, default=128, help="pixels of a side (%(default)s)")
    show.set_defaults(run=_show)


def run_shards(options: argparse.Namespace) -> int:
    """Run ``npe shards`` and return its exit status."""
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"npe: shards need a package that is absent ({error.name}): "
            "pip install 'neural-photo-editor[train]'\n"
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"npe: {error}\n")
    return EXIT_FILE


# The data package is imported late: a bare install, which only talks to a server, lacks what it
# needs.
def _verify(options: argparse.Namespace) -> int:
    from neural_photo_editor.common.log import configure_logging
    from neural_photo_editor.data.shard_summary import log_summary
    from neural_photo_editor.data.shard_verification import find_problems

    configure_logging()
    storage, manifest = _open(options.folder)
    num_problems = 0
    for problem in find_problems(storage, manifest):
        num_problems += 1
        sys.stderr.write(f"npe: {problem}\n")
    sys.stdout.write(f"{manifest.name}\n{log_summary(manifest)}\n")
    if num_problems:
        sys.stdout.write(f"DAMAGED: {num_problems} problems in {len(manifest.shards)} shards\n")
        return EXIT_DAMAGED
    num_bytes = sum(shard.bytes for shard in manifest.shards)
    sys.stdout.write(f"all {len(manifest.shards)} shards ({num_bytes:,} bytes) are as listed\n")
    return EXIT_OK


def _show(options: argparse.Namespace) -> int:
    from neural_photo_editor.data.contact_sheet import find_near_duplicate_ids, write_contact_sheet

    storage, manifest = _open(options.folder)
    splits = [shard.split for shard in manifest.shards for _ in shard.keys]
    ids = find_near_duplicate_ids(manifest) if options.near_duplicates else range(len(splits))
    if options.split:
        ids = [sample_id for sample_id in ids if splits[sample_id] == options.split]
    if not ids:
        raise ValueError(f"{storage} has no such samples")
    write_contact_sheet(
        storage,
        path=options.output,
        sample_ids=ids,
        num_samples=options.count,
        columns=options.columns,
        tile_size=options.tile,
    )
    sys.stderr.write(
        f"npe: wrote {options.output} with {min(options.count, len(ids))} of {len(ids)} samples\n"
    )
    return EXIT_OK


def _open(folder: str) -> tuple[Any, Any]:
    from neural_photo_editor.data.shard_manifest import ShardManifest
    from neural_photo_editor.data.storage import ShardStorage

    storage = ShardStorage(folder)
    return storage, ShardManifest.load(storage)
