"""Distances of drawn images: against direct ones, split between processes, refused and compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from neural_photo_editor.common.seeding import derive_seed
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.storage import ShardStorage
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.evaluation.processes import Processes
from neural_photo_editor.evaluation.sample_protocol import SampleQuality, compare
from neural_photo_editor.evaluation.sample_quality import SamplePlan, evaluate_samples
from neural_photo_editor.evaluation.sample_references import FeatureView, References
from neural_photo_editor.evaluation.trained_network import TrainedNetwork
from neural_photo_editor.imaging.value_range import to_model_range, to_uint8
from neural_photo_editor.metrics.feature_distance import frechet_distance, kernel_distance
from neural_photo_editor.networks.denoising_unet import DenoisingUNet

SIDE = 16
SCHEDULE = NoiseSchedule.linear(20, 1e-2, 2e-1)
PLAN = SamplePlan(num_samples=20, steps=3, kid_block=7, seed=5)


def four_features(images: Tensor) -> Tensor:
    """Mean colors and contrast, float64, (N, 4)."""
    means = images.double().mean(dim=(2, 3))
    return torch.cat([means, images.double().std(dim=(1, 2, 3))[:, None]], dim=1)


VIEW = FeatureView("four numbers", "0" * 64, "none", four_features)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> ShardStorage:
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=28, resolution=32)
    write_shards(source, out_dir=folder, name="portraits", val_fraction=0.2)
    return ShardStorage(folder)


@pytest.fixture(scope="module")
def denoiser() -> TrainedNetwork:
    torch.manual_seed(0)
    network = DenoisingUNet(
        widths=(16, 16), blocks_per_level=1, attention_levels=(), head_dim=16, num_groups=4
    ).eval()
    torch.nn.init.normal_(network.conv_out.weight, std=0.05)
    return TrainedNetwork(network, {"schedule": SCHEDULE.to_spec(), "resolution": SIDE})


def references(storage: ShardStorage, count: int | None = 18) -> References:
    return References(storage, split="train", count=count, resolution=SIDE, crop_size=None)


def measure(
    denoiser: TrainedNetwork, storage: ShardStorage, out_dir: Path, **changes: Any
) -> SampleQuality:
    arguments: dict[str, Any] = {
        "references": references(storage),
        "view": VIEW,
        "plan": PLAN,
        "processes": Processes(),
        "model": {"name": "tiny"},
        "out_dir": out_dir,
        "batch_size": 3,
        "min_samples": 10,
    }
    return evaluate_samples(denoiser, **{**arguments, **changes})


def test_distances_are_those_of_all_features_at_once(
    denoiser: TrainedNetwork, storage: ShardStorage, tmp_path: Path
) -> None:
    result = measure(denoiser, storage, tmp_path)
    photos = references(storage).photos(range(18))
    mean = photos.double().mean(dim=0) / 127.5 - 1.0
    with torch.no_grad():
        drawn = sample(
            denoiser.network,
            shape=(3, SIDE, SIDE),
            schedule=SCHEDULE,
            seeds=[derive_seed(5, "sample quality", i) for i in range(20)],
            sampler="ddim",
            steps=3,
            mean_x_0=mean,
        )
    seen, real = (four_features(to_model_range(x)) for x in (to_uint8(drawn), photos))
    expected = frechet_distance(seen, real)
    assert result.metrics["frechet_distance"] == pytest.approx(expected, rel=1e-9)
    # Two whole blocks of 7; the rest of both is left to the Frechet distance.
    blocks = [kernel_distance(seen[i : i + 7], real[i : i + 7]) for i in (0, 7)]
    kernel = torch.tensor(blocks, dtype=torch.float64)
    assert result.metrics["kernel_distance"] == pytest.approx(float(kernel.mean()), rel=1e-9)
    error = float(kernel.std() / 2**0.5)
    assert result.metrics["kernel_distance_standard_error"] == pytest.approx(error, rel=1e-9)
    assert SampleQuality.load(tmp_path) == result

    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.height == 2 * 132 - 4
        assert sheet.width == 7 * 132 - 4


def test_pictures_below_are_the_nearest_references(
    denoiser: TrainedNetwork, storage: ShardStorage, tmp_path: Path
) -> None:
    """A denoiser whose estimate is always one photo draws that photo."""
    photos = references(storage).photos(range(18))
    by_heart = to_model_range(photos[11])
    schedule = NoiseSchedule.linear(20, 1e-2, 2e-1, "v")

    class ByHeart(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            alpha_bar = schedule.alpha_bar[t].to(x).reshape(-1, 1, 1, 1)
            return (alpha_bar.sqrt() * x - by_heart) / (1.0 - alpha_bar).sqrt()

    trained = TrainedNetwork(ByHeart(), {"schedule": schedule.to_spec(), "resolution": SIDE})
    measure(trained, storage, tmp_path)
    with Image.open(tmp_path / "samples.png") as sheet:
        above, below = sheet.crop((0, 0, 128, 128)), sheet.crop((0, 132, 128, 260))
    difference = torch.tensor(list(above.tobytes())).float() - torch.tensor(list(below.tobytes()))
    assert float(difference.abs().max()) <= 2


def test_the_protocol_is_written_down(
    denoiser: TrainedNetwork, storage: ShardStorage, tmp_path: Path
) -> None:
    protocol = measure(denoiser, storage, tmp_path).protocol
    assert protocol["samples"] == {
        "num_samples": 20,
        "sampler": "ddim",
        "steps": 3,
        "eta": 0.0,
        "seed": 5,
        "bfloat16": False,
        "kid_block": 7,
    }
    assert protocol["resolution"] == SIDE
    assert protocol["features"] == {
        "network": "four numbers",
        "weights_sha256": "0" * 64,
        "resize": "none",
        "dimension": 4,
    }
    assert protocol["references"]["split"] == "train"
    assert protocol["references"]["count"] == 18
    assert len(protocol["references"]["manifest_digest"]) == 64
    other = references(storage, 17).protocol
    assert other["keys_sha256"] != protocol["references"]["keys_sha256"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_samples": 19}, "18 references are fewer than min_samples = 19"),
        ({"plan": replace(PLAN, num_samples=15), "min_samples": 16}, "15 samples are fewer"),
        ({"plan": replace(PLAN, kid_block=10)}, "half of the 18 references"),
        ({"plan": replace(PLAN, kid_block=1)}, "kid_block is 1; choose from 2"),
        ({"plan": replace(PLAN, steps=21)}, "choose from 1 to the start timestep 20"),
    ],
)
def test_what_would_say_little_is_refused_before_anything_is_drawn(
    denoiser: TrainedNetwork,
    storage: ShardStorage,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    calls: list[int] = []
    denoiser = TrainedNetwork(_Counting(calls), denoiser.metadata)
    with pytest.raises(ValueError, match=message):
        measure(denoiser, storage, tmp_path, **changes)
    assert not calls
    assert not list(tmp_path.iterdir())


class _Counting(torch.nn.Module):
    def __init__(self, calls: list[int]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls.append(len(x))
        return x


def test_more_features_than_samples_are_refused(
    denoiser: TrainedNetwork, storage: ShardStorage, tmp_path: Path
) -> None:
    view = replace(VIEW, features=lambda images: images.flatten(1)[:, :18].double())
    with pytest.raises(ValueError, match=r"18 references of 18 features.*more than 18"):
        measure(denoiser, storage, tmp_path, view=view)
    with pytest.raises(ValueError, match=r"references.count is 99.*set it to null"):
        references(storage, 99)


def test_only_results_of_one_protocol_are_compared(
    denoiser: TrainedNetwork, storage: ShardStorage, tmp_path: Path
) -> None:
    result = measure(denoiser, storage, tmp_path)
    better = replace(result, metrics={**result.metrics, "frechet_distance": 0.5})
    lines = compare({"first": result, "second": better}).splitlines()
    assert [line.split()[-1] for line in lines] == ["result", "second", "first"]
    changed = {**result.protocol, "samples": {**result.protocol["samples"], "steps": 50}}
    other = replace(result, protocol=changed)
    with pytest.raises(ValueError, match=r"first and other .*samples\.steps is 3 and 50"):
        compare({"first": result, "better": better, "other": other})
    with pytest.raises(ValueError, match="name two or more"):
        compare({"first": result})


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*run pipelines/evaluate_samples\.py"):
        SampleQuality.load(tmp_path)
    (tmp_path / "sample_quality.json").write_text('{"metrics": {}}')
    with pytest.raises(ValueError, match="is no result of evaluate_samples"):
        SampleQuality.load(tmp_path)
