"""The pictures of docs/editing.md: drawn portraits, edited by the demo's models.

    python benchmarks/editing_pictures.py [method] [strength] [samplers] [detail] [blend] [map]

Needs ``make demo``; takes a minute of one CPU core and writes docs/images/editing-*.webp.
The portraits are of a series that the demo's networks were not trained on.
"""

import argparse
import io
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from editing_photo_size import BUNDLE
from editing_runs import REPOSITORY, SERIES
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from neural_photo_editor.api.image_input import encode_image
from neural_photo_editor.api.schema import EditRequest, EditResult
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.evaluation.edit_masks import scratch_mask
from neural_photo_editor.imaging.compositing import paint_over
from neural_photo_editor.imaging.value_range import tensor_to_photo

IMAGES = REPOSITORY / "docs" / "images"
SHEET_PX, GAP_PX, LABEL_PX, FONT_PX = 1000, 6, 26, 17
PAPER, INK = (255, 255, 255), (40, 44, 52)

T0 = 300
SEED = 7
BALD, LONG_HAIR = 6, 21  # Portraits of the series.
CHALK = (235, 232, 224)
SCRATCHED = (31, 0)
SIDE = 256  # Of the photos, and of the grid in which HAIR is given.
ORANGE, BROWN = (196, 120, 60), (140, 80, 36)
HAIR = (  # Color, width and way of each stroke.
    (ORANGE, 30, ((60, 120), (62, 80), (85, 52), (125, 42), (165, 50), (192, 80), (196, 120))),
    (ORANGE, 34, ((85, 70), (125, 62), (170, 72))),
    (ORANGE, 24, ((68, 100), (108, 76), (152, 76), (188, 102))),
    (BROWN, 5, ((90, 50), (80, 90))),
    (BROWN, 5, ((125, 40), (122, 76))),
    (BROWN, 5, ((160, 50), (172, 88))),
)
HEAD = (56, 24, 206, 136)  # (left, top, right, bottom) of what HAIR covers.

Picture = NDArray[np.uint8]
Panel = tuple[str, Picture]
"""A label and what stands below it."""


def draw_method(pipeline: EditPipeline) -> list[list[Panel]]:
    """One edit from the photo to the result, with what goes into the denoiser and comes out."""
    photo, strokes = _photo(BALD), _hair_strokes()
    states: list[Tensor] = []
    squares: list[Tensor] = []
    estimates: list[Picture] = []
    hooks = [
        pipeline.denoiser.register_forward_pre_hook(lambda _, args: states.append(args[0])),
        pipeline.upscaler.register_forward_pre_hook(lambda _, args: squares.append(args[0])),
    ]
    request = _request(photo, strokes=strokes, timestep=T0, steps=10, sampler="ddim")
    answers = pipeline.run([request], lambda _, progress: estimates.append(progress.preview()))
    for hook in hooks:
        hook.remove()
    mask = np.repeat(np.uint8(255) * (strokes[..., 3:] > 0), 3, axis=2)
    shown = [(f"estimate of x_0, t = {T0 - 30 * i}", estimates[i]) for i in (0, 3, 6, 9)]
    return [
        [
            ("photo x", photo),
            ("mask m", mask),
            ("painted photo u", paint_over(photo, strokes)),
            (f"noised: x_t0, t0 = {T0}", _square(states[0])),
            *shown[:1],
        ],
        [*shown[1:], ("edited square", _square(squares[0])), ("result", _picture(answers[0]))],
    ]


def draw_strength(pipeline: EditPipeline) -> list[list[Panel]]:
    photo, strokes = _photo(BALD), _hair_strokes()
    strengths = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    requests = [_request(photo, strokes=strokes, strength=strength) for strength in strengths]
    panels = [("photo", photo), ("painted", paint_over(photo, strokes))]
    for strength, answer in zip(strengths, pipeline.run(requests), strict=True):
        t0 = pipeline.schedule.timestep_for_strength(strength)
        panels.append((f"strength {strength:g}, t0 = {t0}", _picture(answer)))
    return [panels[:4], panels[4:]]


def draw_samplers(pipeline: EditPipeline) -> list[list[Panel]]:
    photo, strokes = _photo(BALD), _hair_strokes()
    runs = (("ddpm", T0), ("ddim", 20), ("ddim", 10), ("dpmpp_2m", 20), ("dpmpp_2m", 10))
    requests = [
        _request(photo, strokes=strokes, timestep=T0, sampler=sampler, steps=steps)
        for sampler, steps in runs
    ]
    panels = [("painted", _cut(paint_over(photo, strokes), HEAD))]
    for (sampler, steps), answer in zip(runs, pipeline.run(requests), strict=True):
        panels.append((f"{sampler}, {steps} steps", _cut(_picture(answer), HEAD)))
    return [panels[:3], panels[3:]]


def draw_detail(pipeline: EditPipeline) -> list[list[Panel]]:
    """A color and strokes on photos of eight times the model's resolution, in their own pixels."""
    sources = ("photo", "mixed", "model")
    rows = []
    for index, box, fields in (
        (LONG_HAIR, (110, 100, 350, 280), {"regions": ("hair",), "color": "#c2571f"}),
        (BALD, (110, 60, 350, 240), {"strokes": _hair_strokes(2 * SIDE)}),
    ):
        photo = _photo(index, 2 * SIDE)
        requests = [
            _request(photo, detail=source, strength=0.4, seed=3, **fields) for source in sources
        ]
        first = ("uploaded", photo)
        if "strokes" in fields:
            first = ("painted", paint_over(photo, fields["strokes"]))
        answers = zip(sources, pipeline.run(requests), strict=True)
        panels = [first, *((f"detail={source}", _picture(answer)) for source, answer in answers)]
        rows.append([(label, _cut(picture, box)) for label, picture in panels])
    return rows


def draw_blend(pipeline: EditPipeline) -> list[list[Panel]]:
    """Photos with a scratch across them, filled. The mask is the scratch, to the pixel."""
    rows = []
    for index in SCRATCHED:
        portrait = generate_portrait(SERIES, index, resolution=SIDE)
        mask = scratch_mask(portrait.labels)
        scratched = np.where(mask[..., None], np.array(CHALK, np.uint8), portrait.photo)
        blends = ("feather", "gradient")
        requests = [_request(scratched, mask=mask, blend=blend) for blend in blends]
        answers = zip(blends, pipeline.run(requests), strict=True)
        panels = [("uploaded, with a scratch", scratched)]
        panels += [(f"blend={blend}", _picture(answer)) for blend, answer in answers]
        panels.append(("without the scratch", portrait.photo))
        rows.append([(label, _cut(picture, (40, 20, 216, 196))) for label, picture in panels])
    return rows


def draw_map(pipeline: EditPipeline) -> list[list[Panel]]:
    photo, strokes = _photo(BALD), _hair_strokes()
    ramp = np.interp(np.arange(SIDE), (96, 166), (0, 255)).round().astype(np.uint8)
    strength_map = np.tile(ramp, (SIDE, 1))
    fields = {"strength": 0.7, "detail": "mixed", "sampler": "dpmpp_2m", "steps": 20, "seed": 8}
    requests = [
        _request(photo, strokes=strokes, strength_map=given, **fields)
        for given in (None, strength_map)
    ]
    without_map, with_map = map(_picture, pipeline.run(requests))
    panels = [
        ("painted", paint_over(photo, strokes)),
        ("strength 0.7", without_map),
        ("strength_map", np.repeat(strength_map[..., None], 3, axis=2)),
        ("strength 0.7 x map", with_map),
    ]
    return [[(label, _cut(picture, HEAD)) for label, picture in panels]]


def _photo(index: int, side: int = SIDE) -> Picture:
    photo: Picture = generate_portrait(SERIES, index, resolution=side).photo
    return photo


def _hair_strokes(side: int = SIDE) -> Picture:
    """Paint HAIR with round brushes, hard-edged; uint8 (side, side, 4)."""
    canvas = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(canvas)
    scale = side / SIDE
    for color, width, way in HAIR:
        points = [(x * scale, y * scale) for x, y in way]
        draw.line(points, fill=(*color, 255), width=round(width * scale), joint="curve")
        for x, y in (points[0], points[-1]):
            draw.circle((x, y), width * scale / 2, fill=(*color, 255))
    return np.asarray(canvas).copy()


def _request(photo: Picture, **fields: Any) -> EditRequest:
    """Return a request of SEED; drawn by the models unless it says otherwise."""
    files = {
        name: encode_image(value) if isinstance(value, np.ndarray) else value
        for name, value in fields.items()
    }
    return EditRequest(photo=encode_image(photo), **{"seed": SEED, "detail": "model", **files})


def _picture(answer: object) -> Picture:
    assert isinstance(answer, EditResult), answer
    return np.asarray(Image.open(io.BytesIO(answer.image)).convert("RGB"))


def _square(state: Tensor) -> Picture:
    """Show a state of the model, float (1, 3, R, R), clipped to what a picture can hold."""
    return tensor_to_photo(state.float().clamp(-1.0, 1.0))


def _cut(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


def save_sheet(rows: Sequence[Sequence[Panel]], path: Path) -> None:
    """Write rows of labeled panels, enlarged pixel by pixel to the width of the sheet."""
    columns = max(len(row) for row in rows)
    width = (SHEET_PX - GAP_PX * (columns - 1)) // columns
    heights = [
        max(round(width * p.shape[0] / p.shape[1]) for _, p in row) + LABEL_PX for row in rows
    ]
    sheet = Image.new("RGB", (SHEET_PX, sum(heights) + GAP_PX * (len(rows) - 1)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_PX)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, (label, picture) in enumerate(row):
            left = column * (width + GAP_PX)
            middle = (left + width / 2, top + LABEL_PX / 2)
            draw.text(middle, label, fill=INK, font=font, anchor="mm")
            size = (width, height - LABEL_PX)
            small = picture.shape[1] < width / 2
            how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            sheet.paste(Image.fromarray(picture).resize(size, how), (left, top + LABEL_PX))
        top += height + GAP_PX
    sheet.save(path, quality=85, method=6)
    print(f"{path}: {sheet.width} x {sheet.height}, {path.stat().st_size / 1e3:.0f} kB", flush=True)


PICTURES: dict[str, Callable[[EditPipeline], list[list[Panel]]]] = {
    "method": draw_method,
    "strength": draw_strength,
    "samplers": draw_samplers,
    "detail": draw_detail,
    "blend": draw_blend,
    "map": draw_map,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", choices=[*PICTURES, []], help="all when left out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(BUNDLE) as archive:
        archive.extractall(folder)
        pipeline = EditPipeline.from_bundle(Path(folder))
    for name in args.pictures or PICTURES:
        save_sheet(PICTURES[name](pipeline), IMAGES / f"editing-{name}.webp")


if __name__ == "__main__":
    main()
