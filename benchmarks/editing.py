"""Is the edit as good as what it is made from, and faster? Checks on drawn portraits.

    python benchmarks/editing_runs.py paint; python benchmarks/editing_runs.py fill   # an hour
    python benchmarks/editing.py [speed] [repaint] [strength] [blending] [detail]     # minutes

Measures the demo's networks (64 pixels, T = 500) on portraits of a series they were not trained on,
prints what must hold and writes outputs/benchmarks/editing/PART.json with pictures beside it.
speed and repaint read the pictures that editing_runs.py keeps; the others make theirs.

speed: fewer steps against "original", all 300 ancestral steps with white noise, on 200 painted
    edits: realism (see editing_realism.py) and paint at most 5 % worse; CPU seconds of one process.
    blind_METHOD.png shows pairs of which blind_METHOD_key.json tells which is which.
repaint: fills in 47 calls against diffusers' RePaintPipeline in 2,410, on the same portraits. Ours
    are means over several seeds, blended as they are served or ("_pasted") not blended, with the
    5th and 95th percentile of their differences to RePaint over portraits drawn with replacement.
strength: the change inside the mask grows with the start timestep, outside there is none.
blending: the Poisson equation against feathering, on fills at four times the model's resolution.
detail: recolored hair keeps the photo's fine contrast; the upscaler's paste beside it.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import torch
from editing_photo_size import check_blending, check_detail
from editing_realism import realism, spread_of_differences, spread_of_ratio
from editing_runs import (
    FILL_T0,
    PAINT_T0,
    REGISTRY,
    RESOLUTION,
    RUNS,
    SERIES,
    Editor,
    cases_of,
)
from numpy.typing import NDArray

from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.editing.finishing import RING
from neural_photo_editor.editing.planning import FILL_RESAMPLES, FILL_SAMPLER, FILL_STEPS
from neural_photo_editor.evaluation.edit_cases import EditCase, filled_cases
from neural_photo_editor.evaluation.pictures import enlarge, save_grid
from neural_photo_editor.evaluation.report import Check
from neural_photo_editor.imaging.color_matching import match_ring
from neural_photo_editor.imaging.gradient_blending import blend_gradients
from neural_photo_editor.metrics.edit_quality import (
    max_difference_outside,
    mean_change_inside,
    paint_difference,
    seam,
)

OUTPUT = RUNS.parent
TOLERANCE = 1.05  # Of what a faster edit may lose.
TIMESTEPS = (100, 200, 300, 400, 475)
BLIND_PAIRS = 20
SERVED_FILL = f"{FILL_SAMPLER}_{FILL_STEPS}x{FILL_RESAMPLES}"
REALISM = ("kernel_distance", "frechet_distance", "region_kernel", "region_frechet")

Pictures = NDArray[np.uint8]
Values = dict[str, float]
Result = tuple[dict[str, Values], list[Check]]
"""Measures of each method by name, and what must hold."""


def load_runs(part: str) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Return method -> arrays, of the batches that every method has."""
    folders = sorted(folder for folder in (RUNS / part).iterdir() if any(folder.glob("*.npz")))
    names = set.intersection(*({f.name for f in folder.glob("????.npz")} for folder in folders))
    runs = {}
    for folder in folders:
        batches = [np.load(folder / name) for name in sorted(names)]
        runs[folder.name] = {
            "pictures": np.concatenate([batch["pictures"] for batch in batches]),
            "calls": np.array([batch["calls"] for batch in batches]),
            "cpu_s": np.array([batch["cpu_s"] for batch in batches]),
        }
    return runs


def measure(cases: Sequence[EditCase], pictures: Pictures) -> Values:
    """Return the measures of a method's edits, means over the cases."""
    edits = list(zip(cases, pictures, strict=True))
    values = {
        "paint_difference": np.mean([paint_difference(c.painted, p, c.mask) for c, p in edits]),
        "change_inside": np.mean([mean_change_inside(c.photo, p, c.mask) for c, p in edits]),
        "max_difference_outside": max(max_difference_outside(c.photo, p, c.mask) for c, p in edits),
        "seam": np.mean([seam(c.photo, p, c.mask) for c, p in edits]),
        **realism(cases, list(pictures)),
    }
    return {name: float(value) for name, value in values.items()}


def with_costs(values: Values, run: dict[str, NDArray[np.generic]], count: int) -> Values:
    return {
        **values,
        "calls": float(run["calls"][0]),
        "cpu_s_per_edit": float(run["cpu_s"].sum()) / count,
    }


def check_speed() -> Result:
    runs = load_runs("paint")
    count = len(runs["original"]["pictures"])
    cases = cases_of("paint", count)
    table = {
        name: with_costs(measure(cases, run["pictures"]), run, count) for name, run in runs.items()
    }
    table["photo"] = measure(cases, np.stack([case.photo for case in cases]))
    table["painted"] = measure(cases, np.stack([case.painted for case in cases]))
    original = table["original"]
    checks = []
    for name in runs:
        if name == "original":
            continue
        for metric in (*REALISM, "paint_difference"):
            if metric not in original:
                continue  # A Frechet distance needs more edits than features.
            ratio = table[name][metric] / original[metric]
            checks.append(Check(f"{name}: {metric} / original's", ratio, TOLERANCE, "at most"))
        least = 15.0 if "_20" in name else 28.0
        for metric in ("calls", "cpu_s_per_edit"):
            ratio = original[metric] / table[name][metric]
            checks.append(Check(f"{name}: original's {metric} / its", ratio, least))
        table[name] |= spread_of_ratio(cases, runs[name]["pictures"], runs["original"]["pictures"])
    for ours in [name for name in runs if name.endswith(("_20", "_10"))]:
        blind_sheet(cases, runs["original"]["pictures"], runs[ours]["pictures"], name=ours)
    return table, checks


def blind_sheet(
    cases: Sequence[EditCase], original: Pictures, ours: Pictures, *, name: str
) -> None:
    """Write pairs in a shuffled order, and the order in another file."""
    rng = numpy_generator("blind sheet", name)
    chosen = rng.permutation(len(cases))[:BLIND_PAIRS]
    rows, key = [], []
    for number, i in enumerate(chosen):
        pair = [("original", original[i]), (name, ours[i])]
        if rng.random() < 0.5:
            pair.reverse()
        row = [cases[i].photo, cases[i].painted, *(picture for _, picture in pair)]
        rows.append([enlarge(picture, 128) for picture in row])
        key.append({"pair": number, "case": int(i), "A": pair[0][0], "B": pair[1][0]})
    half = len(rows) // 2
    wide = [left + right for left, right in zip(rows[:half], rows[half:], strict=True)]
    save_grid(wide, OUTPUT / f"blind_{name}.png", headers=("photo", "painted", "A", "B") * 2)
    (OUTPUT / f"blind_{name}_key.json").write_text(json.dumps(key, indent=2) + "\n")


def check_repaint() -> Result:
    runs = load_runs("fill")
    cases = cases_of("fill", len(runs["repaint"]["pictures"]))
    photos = np.stack([case.photo for case in cases])
    masks = np.stack([case.mask for case in cases])[..., None]
    table, fills = {"photo": measure(cases, photos)}, {}
    for name, run in runs.items():
        drawn = run["pictures"]
        drawn = drawn[None] if drawn.ndim == 4 else drawn.swapaxes(0, 1)  # (seeds, N, H, W, 3).
        fills[f"{name}_pasted"] = np.where(masks, drawn, photos)
        fills[name] = np.stack([served(cases, pictures) for pictures in drawn])
        for variant in [variant for variant in fills if variant not in table]:
            seeds = [measure(cases, pictures) for pictures in fills[variant]]
            table[variant] = with_costs(means(seeds), run, len(cases) * len(seeds))
    checks = []
    for theirs in ("repaint_pasted", "repaint"):
        ours = table[SERVED_FILL]
        spread = spread_of_differences(cases, fills[SERVED_FILL], fills[theirs][0])
        for metric, (low, high) in spread.items():
            ours |= {f"{metric}-{theirs}_p05": low, f"{metric}-{theirs}_p95": high}
            difference = ours[metric] - table[theirs][metric]
            name = f"{SERVED_FILL}: {metric} - {theirs}'s ({low:.4f} .. {high:.4f})"
            checks.append(Check(name, difference, 0.0, "at most"))
    ratio = table["repaint"]["calls"] / table[SERVED_FILL]["calls"]
    outside = max(values["max_difference_outside"] for values in table.values())
    checks.append(Check(f"RePaint's calls / {SERVED_FILL}'s", ratio, 50.0))
    checks.append(Check("largest change outside", outside, 0.0, "at most"))
    fill_sheet(cases, {name: fills[name][0] for name in runs})
    return table, checks


def means(seeds: Sequence[Values]) -> Values:
    """Average the measures of several seeds; with the standard deviation of what is compared."""
    values = {name: float(np.mean([seed[name] for seed in seeds])) for name in seeds[0]}
    if len(seeds) > 1:
        for name in ("seam", "kernel_distance", "region_kernel"):
            values[f"{name}_sd"] = float(np.std([seed[name] for seed in seeds], ddof=1))
    return values


def served(cases: Sequence[EditCase], pictures: Pictures) -> Pictures:
    """Blend fills into their photos as the editor does, see `editing.finishing`."""
    width_px = round(RING * RESOLUTION)
    return np.stack(
        [
            blend_gradients(c.photo, match_ring(c.photo, p, c.mask, width_px=width_px), c.mask)
            for c, p in zip(cases, pictures, strict=True)
        ]
    )


def fill_sheet(cases: Sequence[EditCase], methods: dict[str, Pictures]) -> None:
    rows = []
    for i, case in enumerate(cases):
        erased = np.where(case.mask[..., None], np.uint8(128), case.photo)
        pictures = (case.photo, erased, *(method[i] for method in methods.values()))
        rows.append([enlarge(picture, 128) for picture in pictures])
    save_grid(rows, OUTPUT / "repaint.png", headers=("photo", "erased", *methods))


def check_strength() -> Result:
    """Parts of photos drawn anew from every timestep: no paint, 20 DDIM steps, no resampling."""
    editor = Editor(REGISTRY)
    cases = list(islice(filled_cases(SERIES, resolution=RESOLUTION), 24))
    table, rows = {}, [[case.photo] for case in cases]
    for t0 in TIMESTEPS:
        with torch.inference_mode():
            pictures, _ = editor.edit(cases, t0=t0, steps=20, sampler="ddim")
        table[f"t{t0}"] = measure(cases, pictures)
        for row, picture in zip(rows, pictures, strict=True):
            row.append(picture)
    enlarged = [[enlarge(picture, 128) for picture in row] for row in rows[:8]]
    headers = ("photo", *(f"t = {t0}" for t0 in TIMESTEPS))
    save_grid(enlarged, OUTPUT / "strength.png", headers=headers)
    changes = [values["change_inside"] for values in table.values()]
    outside = max(values["max_difference_outside"] for values in table.values())
    return table, [
        Check("least growth of the change inside", float(np.diff(changes).min()), 0.0),
        Check("largest change outside", outside, 0.0, "at most"),
    ]


PARTS: dict[str, Callable[[], Result]] = {
    "speed": check_speed,
    "repaint": check_repaint,
    "strength": check_strength,
    "blending": check_blending,
    "detail": check_detail,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all when left out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for part in args.parts or PARTS:
        table, checks = PARTS[part]()
        columns = list(dict.fromkeys(name for values in table.values() for name in values))
        print(f"\n{part}\n{'':24}" + "".join(f"{name[:16]:>18}" for name in columns))
        for method, values in table.items():
            cells = (f"{values[n]:>18.5g}" if n in values else " " * 18 for n in columns)
            print(f"{method:24}" + "".join(cells))
        for check in checks:
            print(check)
        report = {
            "t0": FILL_T0 if part == "repaint" else PAINT_T0,
            "methods": table,
            "checks": [
                {"name": c.name, "value": c.value, "bound": c.bound, "holds": c.passed}
                for c in checks
            ],
        }
        (OUTPUT / f"{part}.json").write_text(json.dumps(report, indent=2) + "\n")
        print(f"written: {OUTPUT / part}.json", flush=True)


if __name__ == "__main__":
    main()
