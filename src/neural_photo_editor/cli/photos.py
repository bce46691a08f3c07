"""``npe segment``, ``npe upscale`` and ``npe info``."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.client import EditClient
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.schema import ResultMetadata
from neural_photo_editor.cli.connection import EXIT_OK, connect, connection_options, say
from neural_photo_editor.common.regions import colorize_labels, region_id


def add_photo_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``segment``, ``upscale`` and ``info`` to the command line."""
    connection = connection_options()
    photo = argparse.ArgumentParser(add_help=False, parents=[connection])
    photo.add_argument("photo", type=Path, help="JPEG, PNG or WebP file")
    photo.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: beside the photo"
    )

    segment = commands.add_parser("segment", parents=[photo], help="map every pixel to a region")
    segment.add_argument(
        "--colorize", action="store_true", help="write a colored picture, not region ids 0..10"
    )
    segment.set_defaults(run=_segment)
    upscale = commands.add_parser("upscale", parents=[photo], help="enlarge a photo")
    upscale.set_defaults(run=_upscale)
    info = commands.add_parser(
        "info", parents=[connection], help="show limits, regions and bundles of a server"
    )
    info.set_defaults(run=_info)


def _segment(options: argparse.Namespace) -> int:
    with connect(options) as client:
        result = client.segment(options.photo)
    output = options.output or options.photo.with_name(f"{options.photo.stem}.regions.png")
    picture = result.image
    if options.colorize:
        picture = encode_png(colorize_labels(_labels(picture)))
    output.write_bytes(picture)
    return report([output], result.metadata)


def _upscale(options: argparse.Namespace) -> int:
    with connect(options) as client:
        result = client.upscale(options.photo)
    output = options.output or options.photo.with_name(f"{options.photo.stem}.upscaled.png")
    return report([result.save(output)], result.metadata)


def _info(options: argparse.Namespace) -> int:
    with connect(options) as client:
        sys.stdout.write(json.dumps(client.info(), indent=2) + "\n")
    return EXIT_OK


def report(written: list[Path], metadata: ResultMetadata) -> int:
    """Say what was written, and write the metadata to the output."""
    names = ", ".join(str(path) for path in written)
    say(f"wrote {names} ({metadata.width} x {metadata.height} pixels)")
    sys.stdout.write(json.dumps(metadata.model_dump(mode="json"), indent=2) + "\n")
    return EXIT_OK


def find_regions(client: EditClient, photo: bytes, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return where the server's segmenter finds regions of a photo, (H, W); raises EditError."""
    labels = _labels(client.segment(photo).image)
    return np.isin(labels, [region_id(name) for name in names])


def _labels(label_map: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(label_map), formats=("PNG",)) as image:
        return np.asarray(image.convert("L"))
