"""``npe``: send a photo to a running server and save what comes back; check shards. Needs no torch.

Exit status: 0 done, 1 a local file cannot be read or written, 2 wrong usage, 3 the server refused
the request or a policy the promotion, 4 the server failed or could not be reached, 5 the data set
is damaged, 6 a check of a receipt failed, 7 none failed but not everything is proven.
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

import neural_photo_editor
from neural_photo_editor.api.client import EditClient
from neural_photo_editor.api.client_calls import DEFAULT_URL
from neural_photo_editor.api.client_errors import EditError
from neural_photo_editor.api.codec import ImageFormat, encode_png
from neural_photo_editor.api.schema import (
    Blend,
    DetailSource,
    EditResult,
    Sampler,
    SegmentResult,
    UpscaleResult,
)
from neural_photo_editor.cli.keys import add_keys_parser, run_keys
from neural_photo_editor.cli.registry import add_registry_parser, run_registry
from neural_photo_editor.cli.shards import EXIT_FILE, EXIT_OK, add_shards_parser, run_shards
from neural_photo_editor.cli.verify import add_verify_parsers, run_verify
from neural_photo_editor.common.regions import REGION_NAMES, colorize_labels

EXIT_REFUSED = 3
EXIT_SERVER = 4

_NAMES = {"segment": "regions", "edit": "edited", "upscale": "upscaled"}
_FILE_SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    if options.command == "keys":
        return run_keys(options)
    if options.command == "registry":
        return run_registry(options)
    if options.command == "shards":
        return run_shards(options)
    if options.command in ("verify", "receipt-key"):
        return run_verify(options)
    try:
        photo = options.photo.read_bytes()
        _say(f"{options.command}: sending {options.photo} ({len(photo):,} bytes)", options.server)
        start = time.monotonic()
        with EditClient(options.server, timeout_s=options.timeout) as client:
            result = _request(client, photo, options)
        elapsed_s = time.monotonic() - start
        written = _write(result, options)
    except OSError as error:
        sys.stderr.write(f"npe: {error}\n")
        return EXIT_FILE
    except EditError as error:
        sys.stderr.write(f"npe: {error}\n")
        refused = error.status is not None and 400 <= error.status < 500
        return EXIT_REFUSED if refused else EXIT_SERVER
    width, height = result.metadata.width, result.metadata.height
    names = ", ".join(str(path) for path in written)
    _say(f"wrote {names} ({width} x {height} pixels) after {elapsed_s:.1f} s", None)
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
        strength_map=options.strength_map,
        timestep=options.timestep,
        steps=options.steps,
        resamples=options.resamples,
        sampler=options.sampler,
        seed=options.seed,
        variations=options.variations,
        detail=options.detail,
        blend=options.blend,
        format=options.format or _format_of(options.output),
    )


def _write(
    result: EditResult | SegmentResult | UpscaleResult, options: argparse.Namespace
) -> Sequence[Path]:
    """Write what came back, by default beside the photo, and return where."""
    suffix = "png"
    if isinstance(result, EditResult):
        suffix = _FILE_SUFFIXES.get(result.metadata.format, suffix)
    name = f"{options.photo.stem}.{_NAMES[options.command]}.{suffix}"
    output: Path = options.output or options.photo.with_name(name)
    if isinstance(result, EditResult) and len(result.images) > 1:
        return result.save_all(output)
    if isinstance(result, SegmentResult) and options.colorize:
        output.write_bytes(_colorized(result.image))
        return [output]
    return [result.save(output)]


def _format_of(output: Path | None) -> str | None:
    """Return the file type that a file name asks for, if it does."""
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    return {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp"}.get(suffix)


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
        "-o", "--output", type=Path, help="file to write (default: beside the photo)"
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
    edit.add_argument(
        "--strength-map", type=Path, help="gray image of the photo's size: share of the strength"
    )
    edit.add_argument("--timestep", type=int, help="expert alternative to --strength")
    edit.add_argument("--steps", type=int, help="timesteps visited: more is slower and finer")
    edit.add_argument(
        "--resamples", type=int, help="repeat each: fits better, takes as much longer"
    )
    edit.add_argument("--sampler", choices=get_args(Sampler))
    edit.add_argument("--seed", type=int, help="repeat an edit exactly")
    edit.add_argument(
        "--variations", type=int, default=1, help="so many images, out-1.png, out-2.png, ..."
    )
    edit.add_argument(
        "--detail",
        choices=get_args(DetailSource),
        help="keep the photo's own fine detail, draw it anew, or each where it fits",
    )
    edit.add_argument(
        "--blend",
        choices=get_args(Blend),
        help="soft edge, or continue the colors around it (default for a filled mask)",
    )
    edit.add_argument(
        "--format",
        choices=get_args(ImageFormat),
        help="default: as the output is called, else WebP for WebP and PNG for the rest",
    )
    add_keys_parser(commands)
    add_shards_parser(commands)
    add_registry_parser(commands)
    add_verify_parsers(commands)
    return parser


def _colorized(label_map: bytes) -> bytes:
    with Image.open(io.BytesIO(label_map), formats=("PNG",)) as image:
        return encode_png(colorize_labels(np.asarray(image.convert("L"))))


def _say(message: str, server: str | None) -> None:
    where = f" to {server}" if server else ""
    sys.stderr.write(f"npe: {message}{where}\n")
