"""Checks of benchmarks/editing.py at four times the model's resolution: blending and detail."""

import io
import tempfile
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from editing_runs import BATCH_SIZE, FILL_T0, REGISTRY, RESOLUTION, RUNS, SERIES, Editor
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.schema import EditRequest, EditResult
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.evaluation.edit_cases import EditCase, filled_cases
from neural_photo_editor.evaluation.pictures import save_grid
from neural_photo_editor.evaluation.report import Check
from neural_photo_editor.imaging.compositing import composite
from neural_photo_editor.imaging.geometry import choose_square, cut_out
from neural_photo_editor.imaging.gradient_blending import blend_gradients
from neural_photo_editor.imaging.masks import mask_to_model
from neural_photo_editor.imaging.recoloring import recolor
from neural_photo_editor.imaging.value_range import photo_to_tensor, tensor_to_photo
from neural_photo_editor.metrics.edit_quality import detail_kept, max_difference_outside, seam

OUTPUT = RUNS.parent
BUNDLE = REGISTRY.parent / "bundle" / "neural_photo_editor.mar"
SCALE = 4
NUM_FILLS, NUM_HAIR = 200, 24
FEATHER_PX = 4  # The bundle's default.
SEAM_WIDTHS = (1, 2 * FEATHER_PX, 16)
FILL_STEPS, FILL_RESAMPLES = 10, 2
HAIR_COLOR, HAIR_T0 = "#c2571f", 200

Pictures = NDArray[np.uint8]


def check_blending() -> tuple[dict[str, dict[str, float]], list[Check]]:
    """Erase gray marks from 200 photos of 256 pixels; the same fill goes through every blend.

    The mask is the mark, to the pixel. Seams are measured against the photo without the mark.
    """
    side = SCALE * RESOLUTION
    cases = list(islice(filled_cases(SERIES, resolution=side), NUM_FILLS))
    upscaler = load_artifact(resolve(REGISTRY, "demo_srgan@latest")).network
    editor = Editor(REGISTRY)
    blends = {
        "hard": lambda case, edit: composite(case.photo, edit, case.mask, feather_px=0),
        "feather": lambda case, edit: composite(case.photo, edit, case.mask, feather_px=FEATHER_PX),
        "gradient": lambda case, edit: blend_gradients(case.photo, edit, case.mask),
    }
    seams: dict[str, list[list[float]]] = {name: [] for name in blends}
    outside, rows = 0, []
    for start in range(0, len(cases), BATCH_SIZE):
        batch = cases[start : start + BATCH_SIZE]
        with torch.inference_mode():
            squares, _ = editor.edit(
                [_small(_marked(case)) for case in batch],
                t0=FILL_T0,
                steps=FILL_STEPS,
                sampler="ddim",
                resamples=FILL_RESAMPLES,
            )
            edits = [
                tensor_to_photo(upscaler(photo_to_tensor(square)).clamp(-1.0, 1.0))
                for square in squares
            ]
        for case, edit in zip(batch, edits, strict=True):
            marked = _marked(case)
            results = {name: blend(marked, edit) for name, blend in blends.items()}
            for name, result in results.items():
                outside = max(outside, max_difference_outside(case.photo, result, case.mask))
                seams[name].append(
                    [seam(case.photo, result, case.mask, width_px=width) for width in SEAM_WIDTHS]
                )
            rows.append([case.photo, marked.photo, *results.values()])
    save_grid(rows[:12], OUTPUT / "blending.png", headers=("photo", "marked", *blends))
    columns = [f"seam_of_{width}_px" for width in SEAM_WIDTHS]
    table = {
        name: dict(zip(columns, np.mean(values, axis=0).tolist(), strict=True))
        for name, values in seams.items()
    }
    lower = np.mean(np.array(seams["gradient"]) < np.array(seams["feather"]), axis=0)
    return table, [
        *(
            Check(f"share of fills with a lower {column} than feathering", float(share), 0.9)
            for column, share in zip(columns, lower, strict=True)
        ),
        Check("largest change outside", outside, 0.0, "at most"),
    ]


def _marked(case: EditCase) -> EditCase:
    photo = np.where(case.mask[..., None], np.uint8(128), case.photo)
    return replace(case, photo=photo, painted=photo)


def _small(case: EditCase) -> EditCase:
    """Return the case at the model's resolution."""
    crop = choose_square(*case.mask.shape)
    photo = tensor_to_photo(cut_out(photo_to_tensor(case.photo), crop, resolution=RESOLUTION))
    mask = mask_to_model(case.mask, crop, resolution=RESOLUTION)[0, 0].numpy()
    return EditCase(case.kind, case.index, photo, photo, mask, case.labels[::SCALE, ::SCALE])


def check_detail() -> tuple[dict[str, dict[str, float]], list[Check]]:
    """Recolor hair by the editor itself, with the photo's detail and with the models'."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(BUNDLE) as archive:
        archive.extractall(folder)
        pipeline = EditPipeline.from_bundle(Path(folder))
    photos, masks = _hair(NUM_HAIR)
    red, green, blue = bytes.fromhex(HAIR_COLOR[1:])
    painted = [recolor(*pair, (red, green, blue)) for pair in zip(photos, masks, strict=True)]
    results = {"paint": painted}
    for detail in ("photo", "model"):
        requests = [
            EditRequest(
                photo=encode_png(photo),
                mask=encode_png(mask.astype(np.uint8) * 255),
                color=HAIR_COLOR,
                timestep=HAIR_T0,
                steps=20,
                detail=detail,
                seed=seed,
            )
            for seed, (photo, mask) in enumerate(zip(photos, masks, strict=True))
        ]
        answers = [pipeline.run(requests[i : i + 8]) for i in range(0, len(requests), 8)]
        results[f"detail={detail}"] = [_picture(answer) for batch in answers for answer in batch]
    # Where the edit is opaque: a soft edge mixes the old hair in, for whose strands nobody asked.
    opaque = [binary_erosion(mask, iterations=FEATHER_PX) for mask in masks]
    energies = {name: _energy_kept(photos, pictures, opaque) for name, pictures in results.items()}
    table = {
        name: {
            "energy_kept": float(kept.mean()),
            "lowest": float(kept.min()),
            "highest": float(kept.max()),
        }
        for name, kept in energies.items()
    }
    shown = [list(row) for row in zip(photos, *results.values(), strict=True)]
    save_grid(shown[:8], OUTPUT / "detail.png", headers=("photo", *results))
    loss = abs(table["detail=photo"]["energy_kept"] - 1.0)
    return table, [Check("fine contrast's energy, off the photo's by", loss, 0.05, "at most")]


def _hair(count: int) -> tuple[list[Pictures], list[NDArray[np.bool_]]]:
    photos, masks = [], []
    index = 0
    while len(photos) < count:
        portrait = generate_portrait(SERIES, index, resolution=SCALE * RESOLUTION)
        mask = portrait.labels == region_id("hair")
        index += 1
        if mask.mean() > 0.1:
            photos.append(portrait.photo)
            masks.append(mask)
    return photos, masks


def _energy_kept(
    before: list[Pictures], after: list[Pictures], masks: list[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """Return the ratio of fine contrast's energy of each pair of pictures."""
    triples = zip(before, after, masks, strict=True)
    return np.array([detail_kept(*triple) ** 2 for triple in triples])


def _picture(answer: object) -> Pictures:
    assert isinstance(answer, EditResult), answer
    return np.asarray(Image.open(io.BytesIO(answer.image)).convert("RGB"))
