"""``npe edit`` makes an edit, ``npe replay`` makes a recorded one again."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import get_args

from neural_photo_editor.api.client_calls import edit_request
from neural_photo_editor.api.image_encoding import ImageFormat
from neural_photo_editor.api.recipe import MAX_RECIPE_BYTES, read_recipe
from neural_photo_editor.api.schema import Blend, DetailSource, EditRequest, Sampler
from neural_photo_editor.api.stream import Progress
from neural_photo_editor.cli.connection import connect, connection_options, say
from neural_photo_editor.cli.edit_files import (
    check_folders,
    format_of,
    picture_path,
    write_images,
    write_preview,
    write_receipts,
    write_recipe,
)
from neural_photo_editor.cli.photos import find_regions, report
from neural_photo_editor.cli.progress_line import ProgressLine
from neural_photo_editor.cli.side_by_side import side_by_side
from neural_photo_editor.common.regions import REGION_NAMES

_EXIT_STATUSES = (
    "Exit status: 0 done, 1 a local file cannot be read or written, 2 wrong usage, 3 the server "
    "refused the request, 4 it failed or cannot be reached, 130 canceled with Ctrl-C (the server "
    "then gives the edit up)."
)


def add_edit_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``edit`` and ``replay`` to the command line."""
    outputs = argparse.ArgumentParser(add_help=False, parents=[connection_options()])
    group = outputs.add_argument_group("output")
    group.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: beside the input"
    )
    group.add_argument(
        "--preview",
        type=picture_path,
        metavar="FILE",
        help="picture that changes while the edit is made",
    )
    group.add_argument(
        "--side-by-side",
        type=picture_path,
        metavar="FILE",
        help="picture of before, marked and after",
    )
    group.add_argument(
        "--receipt", type=Path, metavar="FILE", help="signed receipt, for npe verify"
    )

    edit = commands.add_parser(
        "edit", parents=[outputs], help="repaint marked pixels of a photo", epilog=_EXIT_STATUSES
    )
    edit.add_argument("photo", type=Path, help="JPEG, PNG or WebP file")
    edit.add_argument(
        "--save-recipe", type=Path, metavar="FILE", help="record the edit, for npe replay"
    )
    _add_edit_options(edit)
    edit.set_defaults(run=_edit)

    replay = commands.add_parser(
        "replay", parents=[outputs], help="make a recorded edit again", epilog=_EXIT_STATUSES
    )
    replay.add_argument("recipe", type=Path, help="recipe, a JSON file")
    replay.set_defaults(run=_replay, save_recipe=None)


def _add_edit_options(edit: argparse.ArgumentParser) -> None:
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
        help="soft edge, or continue the colors around the mask (default where a mask is filled)",
    )
    edit.add_argument(
        "--format",
        choices=get_args(ImageFormat),
        help="default: as the output is called, else WebP for WebP and PNG for the rest",
    )


def _edit(options: argparse.Namespace) -> int:
    request = edit_request(
        options.photo,
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
        format=options.format or format_of(options.output),
        receipt=options.receipt is not None,
    )
    return _make(request, options, source=options.photo)


def _replay(options: argparse.Namespace) -> int:
    with options.recipe.open("rb") as file:
        request = read_recipe(file.read(MAX_RECIPE_BYTES + 1)).to_request()
    wanted = {"format": request.format or format_of(options.output), "receipt": False}
    if options.receipt is not None:
        wanted |= {"receipt": True, "response": "json"}
    return _make(request.model_copy(update=wanted), options, source=options.recipe)


def _make(request: EditRequest, options: argparse.Namespace, *, source: Path) -> int:
    """Send an edit, show its progress and write all that was asked for."""
    check_folders(
        options.output, options.preview, options.side_by_side, options.receipt, options.save_recipe
    )
    line = ProgressLine(sys.stderr)

    def on_progress(progress: Progress) -> None:
        line.show(progress)
        if options.preview is not None and progress.preview is not None:
            write_preview(progress.preview, options.preview)

    with connect(options) as client:
        say(f"sending {source} ({len(request.photo):,} bytes of photo) to {options.server}")
        start = time.monotonic()
        try:
            result = client.send_edit(request, on_progress=on_progress)
        finally:
            line.close()
        say(f"answered after {time.monotonic() - start:.1f} s")
        written = write_images(result, options.output, source=source)
        if options.receipt is not None:
            written += write_receipts(result, options.receipt)
        if options.save_recipe is not None:
            written += write_recipe(request, result, options.save_recipe, name=source.stem)
        if options.side_by_side is not None:
            mask_of_regions = partial(find_regions, client, request.photo, request.regions)
            picture = side_by_side(request, result, mask_of_regions=mask_of_regions)
            picture.save(options.side_by_side)
            written.append(options.side_by_side)
    return report(written, result.metadata)
