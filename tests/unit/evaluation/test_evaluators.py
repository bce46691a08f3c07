"""The evaluators against networks whose results are known."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn
from torch.nn import functional as F

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.evaluation.denoiser import evaluate_denoiser
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.segmenter import evaluate_segmenter
from neural_photo_editor.evaluation.upscaler import evaluate_upscaler
from neural_photo_editor.imaging.degradation import Degradation, DegradationStage
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

SIDE = 32


@pytest.fixture(scope="module")
def batches() -> list[dict[str, Tensor]]:
    portraits = [generate_portrait(0, i, resolution=SIDE) for i in range(4)]
    photos = torch.from_numpy(np.stack([p.photo for p in portraits])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.stack([p.labels for p in portraits]))
    return [
        {"image": photos[i : i + 2], "labels": labels[i : i + 2], "sample_id": torch.arange(2) + i}
        for i in (0, 2)
    ]


class Zero(nn.Module):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x_t)


class Recall(nn.Module):
    """Returns the truth of the next batch, but with every pixel of region 0 called hair."""

    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        super().__init__()
        self.answers: Iterator[Tensor] = iter([batch["labels"].long() for batch in batches])

    def forward(self, x: Tensor) -> Tensor:
        answer = next(self.answers)
        answer = torch.where(answer == 0, 1, answer)
        return F.one_hot(answer, 11).permute(0, 3, 1, 2).float()


class Bilinear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=4, mode="bilinear")


def test_a_denoiser_that_predicts_no_noise_has_loss_one(
    batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    arguments = {
        "schedule": NoiseSchedule.linear(),
        "sampling_steps": {"ddim": 2, "ddpm": 3},
        "num_images": 3,
    }
    result = evaluate_denoiser(Zero(), batches, out_dir=tmp_path / "a", **arguments)  # type: ignore[arg-type]
    assert result.num_samples == 4
    # The mean square of 4 * 3 * 32 * 32 normal numbers; standard error 0.013.
    assert result.metrics["loss"] == pytest.approx(1.0, abs=0.06)
    # The quarters that training logs, so that the two can be compared.
    parts = {name for name in result.metrics if name.startswith("loss/t")}
    assert parts <= {f"loss/{name}" for name in ("t001-125", "t126-250", "t251-375", "t376-500")}
    assert parts
    with Image.open(tmp_path / "a/samples.png") as picture:
        assert picture.size == (3 * 128 + 2 * 4, 2 * 128 + 4)
    again = evaluate_denoiser(Zero(), batches, out_dir=tmp_path / "b", **arguments)  # type: ignore[arg-type]
    result.save(tmp_path / "a")
    assert again == result == EvaluationResult.load(tmp_path / "a")
    assert (tmp_path / "a/samples.png").read_bytes() == (tmp_path / "b/samples.png").read_bytes()


def test_a_segmenter_is_judged_region_by_region(
    batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    result = evaluate_segmenter(Recall(batches), batches, out_dir=tmp_path, num_images=3)
    labels = torch.cat([batch["labels"] for batch in batches])
    hair, background = (labels == 1).sum(), (labels == 0).sum()
    assert result.num_samples == 4
    assert result.metrics["iou/background"] == 0.0
    assert result.metrics["iou/skin"] == 1.0
    assert result.metrics["iou/hair"] == pytest.approx(float(hair / (hair + background)))
    assert result.metrics["pixel_accuracy"] == pytest.approx(float((labels != 0).float().mean()))
    assert result.metrics["f1/skin"] == result.metrics["boundary_f1/skin"] == 1.0
    assert 0.0 < result.metrics["boundary_f1/hair"] < 1.0
    assert result.metrics["boundary_f1"] < result.metrics["mean_f1"] + 0.1
    assert result.pictures == ["segmentation.png", "confusion.png"]
    assert all((tmp_path / picture).is_file() for picture in result.pictures)
    with Image.open(tmp_path / "segmentation.png") as picture:
        assert picture.size == (3 * 192 + 2 * 4, 3 * 192 + 2 * 4)


def test_a_flip_at_test_time_averages_what_the_network_says_of_both(
    batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    class Left(nn.Module):
        """Sees hair in the left half of any photo, else little background."""

        def forward(self, x: Tensor) -> Tensor:
            logits = torch.zeros(len(x), 11, SIDE, SIDE)
            logits[:, 0] = 1.0
            logits[:, 1, :, : SIDE // 2] = 3.0
            return logits

    once = evaluate_segmenter(Left(), batches, out_dir=tmp_path)
    flipped = evaluate_segmenter(Left(), batches, out_dir=tmp_path, test_time_flip=True)
    labels = torch.cat([batch["labels"] for batch in batches])
    hair = float((labels == 1).float().mean())
    assert flipped.metrics["iou/hair"] == pytest.approx(hair)  # Everywhere: 1.5 against 1.
    assert once.metrics["iou/hair"] != flipped.metrics["iou/hair"]


def test_an_upscaler_is_judged_against_bicubic(
    batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    result = evaluate_upscaler(Bilinear(), batches, scale=4, out_dir=tmp_path)
    expected = []
    for batch in batches:
        for photo in batch["image"]:
            truth = photo.permute(1, 2, 0).numpy().astype(float) / 127.5 - 1
            # Pillow works on one float channel at a time; clipping as a stored photo would be.
            channels = []
            for c in range(3):
                image = Image.fromarray(truth[..., c].astype(np.float32))
                small = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC)).clip(-1, 1)
                tensor = torch.from_numpy(small)[None, None]
                channels.append(
                    F.interpolate(tensor, scale_factor=4, mode="bilinear")[0, 0].numpy()
                )
            upscaled = np.stack(channels, axis=-1)
            expected.append(peak_signal_noise_ratio(truth, upscaled, data_range=2))
    assert result.metrics["psnr"] == pytest.approx(np.mean(expected), abs=0.01)
    gain = result.metrics["psnr"] - result.metrics["psnr_bicubic"]
    assert result.metrics["psnr_gain"] == pytest.approx(gain)
    assert gain < 0  # Bilinear blurs more.
    assert 0 < result.metrics["ssim"] < 1
    assert 0 < result.metrics["ssim_y"] < 1
    assert (tmp_path / "upscaling.png").is_file()


def test_an_upscaler_is_judged_on_damaged_photos_and_by_a_segmenter(
    batches: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    noisy = DegradationStage(
        blur_probability=1.0,
        blur_sigma=(1.0, 2.0),
        anisotropic=0.5,
        resize=(1.0, 1.0),
        gaussian_noise=1.0,
        noise_sigma=(20.0, 20.0),
        shot_noise=(0.0, 0.0),
        gray_noise=0.5,
        jpeg=(40, 60),
    )
    clean, damaged, repeated, other = (
        evaluate_upscaler(
            Bilinear(),
            batches,
            scale=4,
            out_dir=tmp_path,
            degradation=degradation,
            segmenter=SegmentationUNet(widths=(8, 8)),
            seed=seed,
        ).metrics
        for degradation, seed in (
            (Degradation(), 0),
            (Degradation([noisy]), 0),
            (Degradation([noisy]), 0),
            (Degradation([noisy]), 1),
        )
    )
    assert damaged["psnr_y"] < clean["psnr_y"] - 1
    assert damaged["psnr_y"] == repeated["psnr_y"] != other["psnr_y"]
    assert 0 < clean["perceptual"] < damaged["perceptual"]
    assert {"segmenter_agreement", "segmenter_miou_bicubic"} <= clean.keys()


def test_no_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no held-out photos"):
        evaluate_upscaler(Bilinear(), [], scale=4, out_dir=tmp_path)
    with pytest.raises(ValueError, match=r"run pipelines/evaluate\.py first"):
        EvaluationResult.load(tmp_path)
