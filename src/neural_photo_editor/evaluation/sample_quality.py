"""Distances of drawn images from photos (FID, KID), by any number of processes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.common.seeding import derive_seed
from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.evaluation.pictures import enlarge, save_grid, to_pictures
from neural_photo_editor.evaluation.processes import Processes
from neural_photo_editor.evaluation.sample_protocol import (
    PROTOCOL_VERSION,
    SampleQuality,
    check_counts,
)
from neural_photo_editor.evaluation.sample_references import FeatureView, References
from neural_photo_editor.evaluation.trained_network import TrainedNetwork
from neural_photo_editor.imaging.value_range import to_model_range, to_uint8
from neural_photo_editor.metrics.feature_distance import frechet_distance_of, kernel_distance
from neural_photo_editor.metrics.feature_statistics import FeatureStatistics

_log = get_logger(__name__)

PICTURE_NAME = "samples.png"
PICTURE_PX = 128
MAX_PICTURES = 16


@dataclass(frozen=True)
class SamplePlan:
    """How images are drawn and counted.

    Attributes:
        num_samples: images drawn.
        sampler, steps, eta: see `samplers.sample`.
        seed: image i starts from noise of (seed, i) alone.
        bfloat16: run the denoiser in bfloat16.
        kid_block: images per block of the kernel distance, see `evaluate_samples`.
    """

    num_samples: int
    sampler: SamplerName = "ddim"
    steps: int = 50
    eta: float = 0.0
    seed: int = 0
    bfloat16: bool = False
    kid_block: int = 500


def evaluate_samples(
    trained: TrainedNetwork,
    *,
    references: References,
    view: FeatureView,
    plan: SamplePlan,
    processes: Processes,
    model: dict[str, Any],
    out_dir: Path,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    min_samples: int = 10_000,
) -> SampleQuality:
    """Draw images and measure how far they lie from the references, all processes together.

    FID (Heusel et al. 2017) by streamed means and covariances. KID (Binkowski et al. 2018) is the
    mean over blocks, as its authors have it; but each block of ``kid_block`` images, in the order
    of their numbers, is compared with the block of references of the same number: nothing is
    chosen at random or counted twice, and no process needs another's features.

    Images, like photos, are rounded to 8 bits at the denoiser's resolution before features are
    taken. Where the schedule leaves a trace of the data at t = T, the start is given the mean of
    the references. Which process draws an image changes nothing but the order of sums.

    Args:
        trained: a denoiser.
        references: photos to compare with.
        view: what images are compared by.
        plan: how images are drawn.
        processes: this process among all.
        model: what the result says about the denoiser.
        out_dir: receives ``sample_quality.json`` and ``samples.png``, from process 0: the first
            images, and below each the reference most like it.
        device: of this process.
        batch_size: images at once; memory grows with it. On a GPU it changes rounding.
        min_samples: least samples, and least references.

    Raises:
        ValueError: too few samples or references, see `check_counts`, or see `EditPlan`.
    """
    schedule = NoiseSchedule.from_spec(trained.metadata["schedule"])
    resolution: int = trained.metadata["resolution"]
    # Says now, rather than after the references, what does not fit.
    EditPlan(schedule.num_timesteps, plan.steps, plan.sampler, eta=plan.eta)
    blank = torch.zeros(1, 3, resolution, resolution, device=device)
    check_counts(
        num_samples=plan.num_samples,
        num_references=len(references),
        dimension=(dimension := view.features(blank).shape[1]),
        min_samples=min_samples,
        kid_block=plan.kid_block,
    )
    trained.network.to(device)
    measurement = _Measurement(
        trained, schedule, resolution, references, view, plan, processes, device, batch_size
    )
    real, mean_x_0, real_features = measurement.see_references(FeatureStatistics(dimension))
    drawn, kernel, shown = measurement.see_samples(
        FeatureStatistics(dimension), mean_x_0, real_features
    )
    rows = measurement.nearest(shown, real_features)
    metrics = {
        "frechet_distance": frechet_distance_of(drawn, real),
        "kernel_distance": float(kernel.mean()),
        "kernel_distance_standard_error": float(kernel.std() / len(kernel) ** 0.5),
    }
    protocol = {
        "version": PROTOCOL_VERSION,
        "resolution": resolution,
        "pixels": "rounded to 8 bits at this resolution",
        "start": "N(0, I) + sqrt(alpha_bar_T) mean of the references",
        "samples": asdict(plan),
        "references": references.protocol,
        "features": {**view.protocol, "dimension": dimension},
    }
    result = SampleQuality(protocol, model, metrics, [PICTURE_NAME])
    if processes.rank == 0:
        save_grid(rows, out_dir / PICTURE_NAME)
        result.save(out_dir)
    return result


@dataclass(frozen=True)
class _Shown:
    """The first drawn images, uint8 (process 0 has them), and on all processes their features."""

    images: Tensor
    features: Tensor


@dataclass(frozen=True)
class _Measurement:
    """The arguments of `evaluate_samples`, and its passes over references and samples."""

    trained: TrainedNetwork
    schedule: NoiseSchedule
    resolution: int
    references: References
    view: FeatureView
    plan: SamplePlan
    processes: Processes
    device: torch.device | str
    batch_size: int

    def see_references(
        self, statistics: FeatureStatistics
    ) -> tuple[FeatureStatistics, Tensor, dict[int, Tensor]]:
        """Return the statistics and the mean of all, and the features of this process's blocks."""
        # Whole numbers: the mean has the same bits for any number of processes.
        total = torch.zeros(3, self.resolution, self.resolution, dtype=torch.int64)
        features: dict[int, Tensor] = {}
        for block, numbers in self._blocks(len(self.references)):
            parts = []
            for part in self._batches(numbers):
                photos = self.references.photos(part)
                total += photos.sum(dim=0, dtype=torch.int64)
                parts.append(self._features(photos))
            features[block] = torch.cat(parts)
            statistics.add(features[block])
        mean = self.processes.sum(total).double() / len(self.references)
        mean_x_0 = (mean / 127.5 - 1.0).float()
        return statistics.reduced(self.processes.sum), mean_x_0, features

    def see_samples(
        self, statistics: FeatureStatistics, mean_x_0: Tensor, real: dict[int, Tensor]
    ) -> tuple[FeatureStatistics, Tensor, _Shown]:
        """Draw this process's blocks; return the statistics and kernel distances of all."""
        size, count = self.plan.kid_block, self.plan.num_samples
        kernel = torch.zeros(min(count, len(self.references)) // size, dtype=torch.float64)
        first_images = torch.zeros(0, 3, self.resolution, self.resolution, dtype=torch.uint8)
        num_shown = min(MAX_PICTURES, size)
        first = torch.zeros(num_shown, len(statistics.mean), dtype=torch.float64)
        for block, numbers in self._blocks(count):
            parts = []
            for part in self._batches(numbers):
                images = self._draw(part, mean_x_0)
                parts.append(self._features(images))
                if block == 0:
                    first_images = torch.cat([first_images, images])[:num_shown]
            features = torch.cat(parts)
            statistics.add(features)
            if block < len(kernel):
                kernel[block] = kernel_distance(features, real[block])
            if block == 0:
                first += features[:num_shown]
            _log.info("%d of %d samples", numbers[-1] + 1, count)
        total = self.processes.sum
        return statistics.reduced(total), total(kernel), _Shown(first_images, total(first))

    def nearest(self, shown: _Shown, real: dict[int, Tensor]) -> list[list[Any]]:
        """Return rows of pictures, on process 0: drawn images, and the reference most like each.

        A denoiser that has learned photos by heart draws them again.
        """
        # Of each process, its smallest distance and the number of that reference.
        found = torch.zeros(self.processes.size, len(shown.features), 2, dtype=torch.float64)
        own = found[self.processes.rank]
        own[:, 0] = torch.inf
        for block, features in real.items():
            distance, row = torch.cdist(shown.features, features).min(dim=1)
            number = (block * self.plan.kid_block + row).double()
            closer = distance < own[:, 0]
            own[closer] = torch.stack([distance, number], dim=1)[closer]
        found = self.processes.sum(found)
        if self.processes.rank:
            return []
        best = found[:, :, 0].argmin(dim=0)
        numbers = [int(found[process, i, 1]) for i, process in enumerate(best.tolist())]
        return [
            [enlarge(picture, PICTURE_PX) for picture in to_pictures(to_model_range(images))]
            for images in (shown.images, self.references.photos(numbers))
        ]

    def _blocks(self, count: int) -> Iterator[tuple[int, range]]:
        """Yield this process's blocks, with the numbers of their images."""
        size = self.plan.kid_block
        for block in range(self.processes.rank, -(-count // size), self.processes.size):
            yield block, range(block * size, min((block + 1) * size, count))

    def _batches(self, numbers: range) -> Iterator[range]:
        for start in range(0, len(numbers), self.batch_size):
            yield numbers[start : start + self.batch_size]

    @torch.inference_mode()
    def _features(self, images: Tensor) -> Tensor:
        return self.view.features(to_model_range(images.to(self.device)))

    @torch.inference_mode()
    def _draw(self, numbers: Sequence[int], mean_x_0: Tensor) -> Tensor:
        plan, kind = self.plan, torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bfloat16):
            images = sample(
                self.trained.network,
                shape=mean_x_0.shape,
                schedule=self.schedule,
                seeds=[derive_seed(plan.seed, "sample quality", number) for number in numbers],
                sampler=plan.sampler,
                steps=plan.steps,
                eta=plan.eta,
                mean_x_0=mean_x_0,
                device=self.device,
            )
        return to_uint8(images).cpu()
