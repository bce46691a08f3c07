"""Which prediction, schedule, weighting and optimizer a denoiser learns fastest with, on portraits.

    python benchmarks/denoiser_settings.py --shards DIR --segmenter DIR    # about 10 CPU minutes

Small networks of one layout learn 32 x 32 pixel portraits for the same number of steps, from the
same initial weights, photos, and noise drawn from the same seeds. Each is then judged by what does
not depend on its settings: the mean squared error of x_0 on held-out photos at the noise of four
strengths, which is what edits depend on, and how far portraits it draws lie from training photos by
a segmenter's features. `make demo` leaves both folders: outputs/demo/data/portraits_64, and the
segmenter's artifact in outputs/demo/registry. Runs this short say how fast settings learn, not
where they end. Prints a table and writes outputs/benchmarks/denoiser_settings.json.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.data.shard_dataset import ShardDataset
from neural_photo_editor.data.shard_manifest import Split
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_stream import BatchRequest
from neural_photo_editor.diffusion.noise import sample_noise, training_noise
from neural_photo_editor.diffusion.objective import denoising_loss, min_snr_table
from neural_photo_editor.diffusion.process import add_noise, predict_x_0
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.imaging.geometry import resize
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.metrics.feature_distance import (
    Features,
    frechet_distance,
    kernel_distance,
    segmenter_features,
)
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.lr_schedule import warmup_cosine
from neural_photo_editor.training.optimizers import muon

SIDE = 32
BATCH_SIZE = 8
STRENGTHS = (0.1, 0.37, 0.6, 0.9)
EMA_DECAY = 0.995
SAMPLING_STEPS = 15
OUTPUT = Path("outputs/benchmarks/denoiser_settings.json")


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    schedule: NoiseSchedule
    optimizer: str
    min_snr_gamma: float | None = None


LINEAR, COSINE = NoiseSchedule.linear, NoiseSchedule.cosine
SETTINGS = {
    "eps, linear 500, Adam": Setting(LINEAR(), "adam"),
    "eps, linear 500, Muon": Setting(LINEAR(), "muon"),
    "v, linear 500, Muon": Setting(LINEAR(prediction="v"), "muon"),
    "v, linear 500, min-SNR-5, Muon": Setting(LINEAR(prediction="v"), "muon", 5.0),
    "v, cosine 1000, Muon": Setting(COSINE(1000, "v"), "muon"),
    "v, cosine 1000, min-SNR-5, Muon": Setting(COSINE(1000, "v"), "muon", 5.0),
}


def photos(shards: Path, split: Split, *, count: int) -> Tensor:
    """Return the first photos of a split, uint8 (count, 3, SIDE, SIDE)."""
    reader = ShardReader(shards)
    ids = tuple(reader.sample_ids(split)[:count].tolist())
    batch = ShardDataset(reader, resolution=SIDE)[BatchRequest(0, ids)]
    assert isinstance(batch, dict)
    return batch["image"]


def batches(images: Tensor, steps: int) -> Iterator[tuple[int, Tensor]]:
    """Photos at random, the same for every setting; a half of them is flipped."""
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        flips = torch.rand(BATCH_SIZE, generator=generator) < 0.5
        chosen = to_model_range(images[ids])
        yield step, torch.where(flips.reshape(-1, 1, 1, 1), chosen.flip(-1), chosen)


def make_optimizer(name: str, network: nn.Module) -> torch.optim.Optimizer:
    if name == "muon":
        return muon(network.parameters(), lr=7e-3, adamw_lr=2e-3)
    return torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)


def train(setting: Setting, images: Tensor, *, steps: int) -> nn.Module:
    torch.manual_seed(0)
    network = DenoisingUNet(
        widths=(32, 64, 96), blocks_per_level=1, attention_levels=(2,), num_groups=8, head_dim=32
    )
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = make_optimizer(setting.optimizer, network)
    rate = warmup_cosine(optimizer, warmup_steps=50, total_steps=steps, final_factor=0.1)
    schedule = setting.schedule
    for step, x_0 in batches(images, steps):
        t, eps = training_noise(
            0,
            epoch=step,
            sample_ids=range(BATCH_SIZE),
            shape=x_0.shape[1:],
            num_timesteps=schedule.num_timesteps,
        )
        with torch.autocast("cpu", torch.bfloat16):
            losses = denoising_loss(network, x_0, t=t, eps=eps, schedule=schedule)
        if setting.min_snr_gamma is not None:
            losses = losses * min_snr_table(schedule, setting.min_snr_gamma, x_0.device)[t]
        optimizer.zero_grad()
        losses.mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        weight = max(1.0 - EMA_DECAY, 9.0 / (10.0 + step + 1))
        with torch.no_grad():
            for kept, value in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(value, weight)
    return average.eval()


@torch.inference_mode()
def errors(network: nn.Module, schedule: NoiseSchedule, images: Tensor) -> dict[str, float]:
    """Mean squared error of x_0 at the noise of each strength."""
    x_0 = to_model_range(images)
    eps = sample_noise(1, "held out", shape=x_0.shape)
    found = {}
    for strength in STRENGTHS:
        t = torch.full((len(x_0),), schedule.timestep_for_strength(strength))
        x_t = add_noise(x_0, t=t, eps=eps, schedule=schedule)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(x_t, t).float()
        estimate = predict_x_0(x_t, t=t, output=output, schedule=schedule).clamp(-1.0, 1.0)
        found[f"error at strength {strength}"] = float((estimate - x_0).square().mean())
    return found


@torch.inference_mode()
def drawn(network: nn.Module, schedule: NoiseSchedule, mean_x_0: Tensor, *, count: int) -> Tensor:
    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            output: Tensor = network(x, t)
        return output.float()

    return sample(
        denoiser,
        shape=(3, SIDE, SIDE),
        schedule=schedule,
        seeds=range(count),
        sampler="dpmpp_2m",
        steps=SAMPLING_STEPS,
        mean_x_0=mean_x_0,
    )


def measure(
    name: str, training: Tensor, held_out: Tensor, features: Features, args: argparse.Namespace
) -> dict[str, float]:
    setting = SETTINGS[name]
    start = time.process_time()
    network = train(setting, training, steps=args.steps)
    trained_s = time.process_time() - start
    row = errors(network, setting.schedule, held_out)
    mean = to_model_range(training).mean(dim=0)
    seen = features(drawn(network, setting.schedule, mean, count=args.samples))
    real = features(to_model_range(training[: args.samples]))
    row["Frechet distance"] = frechet_distance(seen, real)
    row["kernel distance"] = kernel_distance(seen, real)
    row["training, CPU s"] = trained_s
    row["all, CPU s"] = time.process_time() - start
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--segmenter", type=Path, required=True, help="an artifact's folder")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    artifact = load_artifact(args.segmenter)
    assert isinstance(artifact.network, SegmentationUNet)
    side = artifact.spec.resolution
    seen = segmenter_features(artifact.network)

    def features(images: Tensor) -> Tensor:
        return seen(resize(images, (side, side)))

    training = photos(args.shards, "train", count=2000)
    held_out = photos(args.shards, "val", count=128)
    rows: dict[str, dict[str, float]] = {}
    for name in args.only:
        rows[name] = measure(name, training, held_out, features, args)
        print(f"{name:40}", "  ".join(f"{k} {v:.5g}" for k, v in rows[name].items()), flush=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    content = {"steps": args.steps, "samples": args.samples, "rows": rows}
    OUTPUT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
