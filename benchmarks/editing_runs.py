"""The slow part of benchmarks/editing.py: make the edits it measures, and keep them.

    python benchmarks/editing_runs.py paint      # 200 painted edits by every painter: half an hour
    python benchmarks/editing_runs.py fill       # 24 fills by ours and by RePaint: an hour
    python benchmarks/editing_runs.py paint --only ours_dpmpp_2m_20

Works with the demo's denoiser (64 pixels, T = 500). Results lie in batches under
outputs/benchmarks/editing/runs/PART/METHOD/: what is there is not made again, so that a run may be
stopped at any time. Every file holds the edited pictures, the network calls of one item and the CPU
seconds of the batch; the methods take turns at each batch, in one process and one thread.

The painted edits start at t0 = 300. "original" is the formula of SDEdit and RePaint as it stands:
ancestral steps through every timestep, white noise.

Fills are made as the editor serves them, from strength 1 (t0 = 478), with the network prepared for
inference and FILL_SEEDS seeds; "ddpm_24x2" is 24 ancestral steps, each walked twice. Kept is the
model's last estimate of the whole square, the surroundings included, for the checks to blend. They
start from the photo; "_erased" with the hidden pixels gray. "repaint" is diffusers'
RePaintPipeline with its defaults and one seed: 250 of the 500 timesteps, jumps of 10 steps, each 10
times, eta 0.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName
from neural_photo_editor.diffusion.masked_editing import StepReport, masked_edit
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.evaluation.edit_cases import EditCase, filled_cases, painted_cases
from neural_photo_editor.imaging.value_range import to_model_range, to_uint8
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.inference import native_dtype, prepare_for_inference

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = REPOSITORY / "outputs" / "benchmarks" / "editing" / "runs"
REGISTRY = REPOSITORY / "outputs" / "demo" / "registry"

SERIES = 20  # The demo's series of portraits to edit; the training photos are of series 0.
RESOLUTION = 64
BATCH_SIZE = 8
NUM_CASES = {"paint": 200, "fill": 24}
PAINT_T0, FILL_T0 = 300, 478  # Fills at the default strength of 1.
FILL_SEEDS = 5
FILL_PLANS: dict[str, tuple[SamplerName, int, int]] = {
    "ddpm_24x2": ("ddpm", 24, 2),
    "ddpm_16x3": ("ddpm", 16, 3),
    "ddim_24x2": ("ddim", 24, 2),
    "dpmpp_2m_16x3": ("dpmpp_2m", 16, 3),
}
"""Sampler, steps and resamples: 46 or 47 calls, a fiftieth of RePaint's at most."""


@dataclass(frozen=True)
class Method:
    """A way to edit: (cases) -> (pictures uint8 (N, ..., H, W, 3), network calls per item)."""

    name: str
    edit: Callable[[Sequence[EditCase]], tuple[NDArray[np.uint8], int]]


class Editor:
    """The demo's denoiser, plain or as it is served, behind the project's sampler."""

    def __init__(self, registry: Path, *, served: bool = False) -> None:
        artifact = load_artifact(resolve(registry, "demo_ddpm@latest"))
        assert artifact.spec.schedule is not None
        self.denoiser = artifact.network
        if served:
            assert isinstance(artifact.network, DenoisingUNet)
            self.denoiser = prepare_for_inference(artifact.network, dtype=native_dtype())
        self.schedule = NoiseSchedule.from_spec(artifact.spec.schedule)

    def edit(
        self,
        cases: Sequence[EditCase],
        *,
        t0: int,
        steps: int,
        sampler: SamplerName,
        color_fidelity: float = 0.0,
        resamples: int = 1,
        eta: float = 0.0,
        erase: bool = False,
        surroundings: bool = False,
    ) -> tuple[NDArray[np.uint8], int]:
        plans = [
            EditPlan(
                t0=t0,
                steps=steps,
                sampler=sampler,
                seed=case.index,
                color_fidelity=color_fidelity,
                resamples=resamples,
                eta=eta,
            )
            for case in cases
        ]
        x_0, mask = photo_batch(cases), mask_batch(cases)
        u_0 = to_batch([case.painted for case in cases])
        if erase:
            u_0 = torch.where(mask, 0.0, u_0)
        reports: list[StepReport] = []
        result = masked_edit(
            self.denoiser,
            u_0,
            x_0=x_0,
            mask=mask,
            plans=plans,
            schedule=self.schedule,
            surroundings=[surroundings] * len(plans),
            on_step=reports.append,
        )
        return to_uint8(result).permute(0, 2, 3, 1).numpy(), reports[-1].step

    def served_fidelity(self, t0: int) -> float:
        """The color fidelity the editor chooses for a painted edit, see editing.preparation."""
        return min(1.0, 2.0 * (1.0 - self.schedule.strength_for_timestep(t0)))


def to_batch(photos: Sequence[NDArray[np.uint8]]) -> Tensor:
    return to_model_range(np.stack(photos)).permute(0, 3, 1, 2).contiguous()


def photo_batch(cases: Sequence[EditCase]) -> Tensor:
    return to_batch([case.photo for case in cases])


def mask_batch(cases: Sequence[EditCase]) -> Tensor:
    return torch.from_numpy(np.stack([case.mask for case in cases]))[:, None]


def paint_methods(editor: Editor) -> list[Method]:
    def method(name: str, **plan: Any) -> Method:
        return Method(name, lambda cases: editor.edit(cases, t0=PAINT_T0, **plan))

    methods = [method("original", steps=PAINT_T0, sampler="ddpm")]
    fidelity = editor.served_fidelity(PAINT_T0)
    for sampler in ("ddim", "dpmpp_2m"):
        for steps in (20, 10):
            name = f"{sampler}_{steps}"
            methods.append(method(f"ours_{name}_white", steps=steps, sampler=sampler))
            methods.append(
                method(f"ours_{name}", steps=steps, sampler=sampler, color_fidelity=fidelity)
            )
    return methods


def fill_methods(registry: Path) -> list[Method]:
    plain, served = Editor(registry), Editor(registry, served=True)

    def method(name: str, *, erase: bool = False) -> Method:
        sampler, steps, resamples = FILL_PLANS[name]

        def edit(cases: Sequence[EditCase]) -> tuple[NDArray[np.uint8], int]:
            draws = [
                served.edit(
                    [replace(case, index=case.index + 10_000 * number) for case in cases],
                    t0=FILL_T0,
                    steps=steps,
                    sampler=sampler,
                    resamples=resamples,
                    erase=erase,
                    surroundings=True,
                )
                for number in range(FILL_SEEDS)
            ]
            return np.stack([pictures for pictures, _ in draws], axis=1), draws[0][1]

        return Method(f"{name}_erased" if erase else name, edit)

    methods = [method(name) for name in FILL_PLANS]
    repaint = RePaint(plain.denoiser, plain.schedule)
    return [*methods, method("ddpm_24x2", erase=True), Method("repaint", repaint.edit)]


class RePaint:
    """diffusers' RePaintPipeline with its defaults, around our denoiser."""

    def __init__(self, denoiser: nn.Module, schedule: NoiseSchedule) -> None:
        from diffusers import RePaintPipeline, RePaintScheduler

        self.unet = EpsilonNetwork(denoiser, schedule)
        scheduler = RePaintScheduler(
            num_train_timesteps=schedule.num_timesteps,
            beta_start=schedule.beta_start,
            beta_end=schedule.beta_end,
        )
        self.pipeline = RePaintPipeline(unet=self.unet, scheduler=scheduler)
        self.pipeline.set_progress_bar_config(disable=True)

    def edit(self, cases: Sequence[EditCase]) -> tuple[NDArray[np.uint8], int]:
        self.unet.calls = 0
        images = self.pipeline(
            image=photo_batch(cases),
            mask_image=1.0 - mask_batch(cases).float(),  # 0 = inpaint.
            generator=torch.Generator().manual_seed(cases[0].index),
            output_type="np",
        ).images
        return np.rint(images * 255.0).astype(np.uint8), self.unet.calls


@dataclass(frozen=True)
class NetworkOutput:
    sample: Tensor


class EpsilonNetwork(nn.Module):
    """Our denoiser as diffusers calls one: timesteps from 0, the noise as output."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, denoiser: nn.Module, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.prediction = schedule.prediction
        self.alpha_bar = schedule.alpha_bar.float()
        self.calls = 0

    def forward(self, x_t: Tensor, timestep: Tensor) -> NetworkOutput:
        self.calls += 1
        t = int(timestep) + 1
        output = self.denoiser(x_t, torch.full((x_t.shape[0],), t))
        if self.prediction == "v":
            alpha_bar = self.alpha_bar[t]
            output = alpha_bar.sqrt() * output + (1.0 - alpha_bar).sqrt() * x_t
        return NetworkOutput(output)


def cases_of(part: str, count: int) -> list[EditCase]:
    walk = painted_cases if part == "paint" else filled_cases
    return list(islice(walk(SERIES, resolution=RESOLUTION), count))


def run_batch(method: Method, cases: Sequence[EditCase], file: Path) -> float:
    """Edit one batch, write its file and return the CPU seconds."""
    start = time.process_time()
    with torch.inference_mode():
        pictures, calls = method.edit(cases)
    cpu_s = time.process_time() - start
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, pictures=pictures, calls=calls, cpu_s=cpu_s)
    temporary.replace(file)
    return cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=NUM_CASES)
    parser.add_argument("--only", action="append", help="method; may be repeated")
    parser.add_argument("--count", type=int, help="edits; 200 painted or 24 filled ones")
    parser.add_argument("--registry", type=Path, default=REGISTRY)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.part == "paint":
        methods = paint_methods(Editor(args.registry))
    else:
        methods = fill_methods(args.registry)
    if args.only:
        methods = [method for method in methods if method.name in args.only]
    cases = cases_of(args.part, args.count or NUM_CASES[args.part])
    for start in range(0, len(cases), BATCH_SIZE):
        for method in methods:
            file = RUNS / args.part / method.name / f"{start:04d}.npz"
            if not file.exists():
                cpu_s = run_batch(method, cases[start : start + BATCH_SIZE], file)
                print(f"{method.name} {start} of {len(cases)}: {cpu_s:.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
