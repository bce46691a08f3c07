from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from neural_photo_editor.common.regions import REGION_NAMES, colorize_labels
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.metrics.boundary import BoundaryF1
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.confusion_picture import ConfusionPicture
from neural_photo_editor.training.portrait_module import Batch
from neural_photo_editor.training.segmenter_module import SegmenterModule


def make_module(rates: dict[str, Any], **options: Any) -> SegmenterModule:
    torch.manual_seed(0)
    network = SegmentationUNet(widths=(16, 32), blocks_per_level=1)
    return SegmenterModule(network, resolution=32, num_samples=2, **rates, **options)


def test_learns_and_logs_the_intersection_over_union_of_every_region(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    rates["optimizer"] = lambda parameters: torch.optim.Adam(parameters, lr=1e-2)
    module = make_module(rates)
    trainer = fit(module, max_steps=45)
    metrics = trainer.callback_metrics
    module.eval()
    with torch.no_grad():
        predicted = torch.cat(
            [module.network(to_model_range(batch["image"])).argmax(1) for batch in batches]
        ).numpy()
    truth = torch.cat([batch["labels"] for batch in batches]).numpy()
    iou = {
        region: ((predicted == region) & (truth == region)).sum()
        / ((predicted == region) | (truth == region)).sum()
        for region in np.unique(truth)
    }
    for region, value in iou.items():
        assert float(metrics[f"val/iou/{REGION_NAMES[region]}"]) == pytest.approx(value, abs=1e-5)
        f1 = 2 * value / (1 + value)
        assert float(metrics[f"val/f1/{REGION_NAMES[region]}"]) == pytest.approx(f1, abs=1e-5)
    boundary = BoundaryF1(11)
    boundary.update(torch.from_numpy(predicted), torch.from_numpy(truth).long())
    assert float(metrics["val/boundary_f1"]) == pytest.approx(boundary.mean(), abs=1e-5)
    assert float(metrics["val/mean_iou"]) == pytest.approx(np.mean(list(iou.values())), abs=1e-5)
    assert float(metrics["val/mean_iou"]) > 0.15  # One region everywhere has at most 1/11.


def test_balance_weighs_the_loss_and_is_no_part_of_a_checkpoint(
    rates: dict[str, Any], batches: list[Batch]
) -> None:
    shares = np.bincount(batches[0]["labels"].flatten(), minlength=11).astype(float)
    plain = make_module(rates)
    balanced = make_module(rates, class_balance=1.0, region_shares=shares.tolist())
    assert balanced.state_dict().keys() == plain.state_dict().keys()
    logits = balanced.network(balanced.images(batches[0])).detach().double()
    labels = batches[0]["labels"].long()
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    # At exponent 1 each region that occurs weighs alike.
    by_region = [float(cross_entropy[labels == region].mean()) for region in labels.unique()]
    difference = balanced._loss(logits, labels) - plain._loss(logits, labels)
    expected = np.mean(by_region) - float(cross_entropy.mean())
    assert float(difference) == pytest.approx(expected, abs=1e-5)
    for wrong in (None, [1.0]):
        with pytest.raises(ValueError, match=r"class_balance is 1\.0 but region_shares are"):
            make_module(rates, class_balance=1.0, region_shares=wrong)


def test_each_validation_leaves_a_picture_of_confusions(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    module = make_module(rates)
    fit(module, max_steps=4, val_check_interval=2, callbacks=[ConfusionPicture(run_dir=tmp_path)])
    pictures = sorted(path.name for path in (tmp_path / "confusion").iterdir())
    assert pictures == ["step-000002.png", "step-000004.png"]
    with Image.open(tmp_path / "confusion" / pictures[1]) as picture:
        assert picture.size == (726, 682)
        assert len(picture.convert("RGB").getcolors(maxcolors=2**20) or []) > 50
    assert module.confusion is not None
    assert int(module.confusion.counts.sum()) == 12 * 32 * 32


def test_samples_are_rows_of_photo_truth_and_prediction(
    rates: dict[str, Any], batches: list[Batch]
) -> None:
    module = make_module(rates).eval()
    with torch.no_grad():
        samples = module.make_samples(batches[0])
    assert samples.shape == (2, 3, 3, 32, 32)
    assert torch.equal(samples[:, 0], batches[0]["image"][:2])
    truth = colorize_labels(batches[0]["labels"][1].numpy())
    assert np.array_equal(samples[1, 1].permute(1, 2, 0).numpy(), truth)


def test_channels_last_changes_the_layout_and_not_the_result(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    losses = []
    for channels_last in (False, True):
        module = make_module(rates)
        module = SegmenterModule(
            module.network, resolution=32, channels_last=channels_last, **rates
        )
        weight = module.network.encoder[0][0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        assert module.images(batches[0]).is_contiguous() != channels_last
        losses.append(float(fit(module, max_steps=3).callback_metrics["train/loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
