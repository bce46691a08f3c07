"""``npe``: send a photo to a running server and save what comes back; check shards. Needs no torch.

Exit status: 0 done, 1 a local file cannot be read or written, 2 wrong usage, 3 the server refused
the request, 4 the server failed or could not be reached, 5 the data set is damaged.
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import neural_photo_editor
from neural_photo_editor.api.client import DEFAULT_URL, EditClient, EditError
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.schema import EditResult, SegmentResult, UpscaleResult
from neural_photo_editor.cli.shards import EXIT_FILE, EXIT_OK, add_shards_parser, run_shards
from neural_photo_editor.common.regions import REGION_NAMES, colorize_labels

EXIT_REFUSED = 3
EXIT_SERVER = 4

_SUFFIXES = {"segment": "regions", "edit": "edited", "upscale": "upscaled"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    if options.command == "shards":
        return run_shards(options)
    output = options.output or _default_output(options.photo, options.command)
    try:
        photo = options.photo.read_bytes()
        _say(f"{options.command}: sending {options.photo} ({len(photo):,} bytes)", options.server)
        start = time.monotonic()
        with EditClient(options.server, timeout_s=options.timeout) as client:
            result = _request(client, photo, options)
        elapsed_s = time.monotonic() - start
        if isinstance(result, SegmentResult) and options.colorize:
            output.write_bytes(_colorized(result.image))
        else:
            result.save(output)
    except OSError as error:
        sys.stderr.write(f"npe: {error}\n")
        return EXIT_FILE
    except EditError as error:
        sys.stderr.write(f"npe: {error}\n")
        refused = error.status is not None and 400 <= error.status < 500
        return EXIT_REFUSED if refused else EXIT_SERVER
    width, height = result.metadata.width, result.metadata.height
    _say(f"wrote {output} ({width} x {height} pixels) after {elapsed_s:.1f} s", None)
    sys.stdout.write(json.dumps(result.metadata.model_dump(mode="json"), indent=2) + "\n")
    return EXIT_OK


def _request(
    client: EditClient, photo: bytes, options: argparse.Namespace
) -> EditResult | SegmentResult | UpscaleResult:
    if options.command == "segment":
        return client.segment(photo)
    if options.command == "upscale":
        return client.upscale(photo)
    return client.edit(
        photo,
        mask=options.mask,
        regions=options.regions,
        strokes=options.strokes,
        color=options.color,
        strength=options.strength,
        timestep=options.timestep,
        steps=options.steps,
        resamples=options.resamples,
        sampler=options.sampler,
        seed=options.seed,
        detail=options.detail,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npe",
        description="Edit portraits with a running Neural Photo Editor server; check data sets.",
    )
    parser.add_argument(
        "--version", action="version", version=f"npe {neural_photo_editor.__version__}"
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("photo", type=Path, help="JPEG, PNG or WebP file")
    shared.add_argument(
        "-o", "--output", type=Path, help="PNG to write (default: beside the photo)"
    )
    shared.add_argument("--server", default=DEFAULT_URL, help="default: %(default)s")
    shared.add_argument(
        "--timeout", type=float, default=120.0, help="seconds to wait for the answer"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    segment = commands.add_parser("segment", parents=[shared], help="map every pixel to a region")
    segment.add_argument(
        "--colorize", action="store_true", help="write a colored picture, not region ids 0..10"
    )
    commands.add_parser("upscale", parents=[shared], help="enlarge a photo")

    edit = commands.add_parser("edit", parents=[shared], help="repaint marked pixels of a photo")
    edit.add_argument("--mask", type=Path, help="image of the photo's size: white = edit")
    edit.add_argument(
        "--regions",
        type=lambda text: tuple(text.split(",")),
        default=(),
        help=f"instead of a mask, comma-separated: {', '.join(REGION_NAMES)}",
    )
    edit.add_argument("--strokes", type=Path, help="RGBA image: what is painted on the photo")
    edit.add_argument("--color", help="paint the whole mask in one color, #rrggbb")
    edit.add_argument("--strength", type=float, help="0 keeps what is painted, 1 almost nothing")
    edit.add_argument("--timestep", type=int, help="expert alternative to --strength")
    edit.add_argument("--steps", type=int, help="timesteps visited: more is slower and finer")
    edit.add_argument(
        "--resamples", type=int, help="repeat each: fits better, takes as much longer"
    )
    edit.add_argument("--sampler", choices=("ddpm", "ddim"))
    edit.add_argument("--seed", type=int, help="repeat an edit exactly")
    edit.add_argument(
        "--detail",
        choices=("photo", "model"),
        help="keep the photo's own fine detail, or draw it anew (default: photo for --color)",
    )
    add_shards_parser(commands)
    return parser


def _default_output(photo: Path, command: str) -> Path:
    return photo.with_name(f"{photo.stem}.{_SUFFIXES[command]}.png")


def _colorized(label_map: bytes) -> bytes:
    with Image.open(io.BytesIO(label_map), formats=("PNG",)) as image:
        return encode_png(colorize_labels(np.asarray(image.convert("L"))))


def _say(message: str, server: str | None) -> None:
    where = f" to {server}" if server else ""
    sys.stderr.write(f"npe: {message}{where}\n")
