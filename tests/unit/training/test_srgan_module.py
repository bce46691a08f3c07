from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from neural_photo_editor.losses.perceptual import PerceptualLoss, segmenter_features
from neural_photo_editor.networks.discriminator import Discriminator
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet
from neural_photo_editor.training.perceptual import make_perceptual_loss
from neural_photo_editor.training.portrait_module import Batch
from neural_photo_editor.training.srgan_module import SRGANModule


def make_module(rates: dict[str, Any], **settings: Any) -> SRGANModule:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "perceptual": PerceptualLoss(segmenter_features(SegmentationUNet(widths=(8, 8)))),
        "pretrain_steps": 2,
        "pixel_weight": 1.0,
        "perceptual_weight": 0.1,
        "adversarial_weight": 0.1,
    }
    return SRGANModule(
        SRResNet(scale=4, width=8, num_blocks=1),
        discriminator=Discriminator(widths=(8, 8), dense_width=8),
        scale=4,
        resolution=32,
        discriminator_optimizer=rates["optimizer"],
        discriminator_lr_scheduler=rates["lr_scheduler"],
        **rates,
        **{**defaults, **settings},
    )


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in network.parameters()])


def test_pre_training_leaves_the_discriminator_alone(
    rates: dict[str, Any], fit: Callable[..., Trainer]
) -> None:
    module = make_module(rates, pretrain_steps=3)
    generator, discriminator = weights(module.network), weights(module.discriminator)
    metrics = fit(module, max_steps=3).callback_metrics
    assert not torch.equal(weights(module.network), generator)
    assert torch.equal(weights(module.discriminator), discriminator)
    assert float(metrics["train/loss"]) == float(metrics["train/loss_pixel"])
    assert "train/loss_adversarial" not in metrics


def test_adversarial_phase_trains_both_and_one_batch_is_one_step(
    rates: dict[str, Any], fit: Callable[..., Trainer]
) -> None:
    module = make_module(rates, pretrain_steps=2)
    (perceptual,) = module._perceptual
    assert perceptual is not None
    frozen, discriminator = weights(perceptual), weights(module.discriminator)
    trainer = fit(module, max_steps=5, log_every_n_steps=1)
    assert trainer.global_step == 5
    generator_schedule, discriminator_schedule = module.lr_schedulers()  # type: ignore[misc]
    assert generator_schedule.last_epoch == 5
    assert discriminator_schedule.last_epoch == 3
    assert not torch.equal(weights(module.discriminator), discriminator)
    assert torch.equal(weights(perceptual), frozen)
    assert all(p.requires_grad for p in module.discriminator.parameters())
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics["train/loss"] == pytest.approx(
        metrics["train/loss_pixel"]
        + 0.1 * metrics["train/loss_adversarial"]
        + 0.1 * metrics["train/loss_perceptual"],
        rel=1e-5,
    )
    assert not any(name.startswith("_perceptual") for name in module.state_dict())


def test_generator_step_gives_the_discriminator_no_gradient(
    rates: dict[str, Any], fit: Callable[..., Trainer]
) -> None:
    """Its gradients stay those of its own loss, on real and generated images."""
    module = make_module(rates, pretrain_steps=0, adversarial_weight=1000.0, perceptual=None)
    steps: list[Tensor] = []

    def watch(optimizer: torch.optim.Optimizer, *_: object) -> None:
        steps.append(torch.cat([p.grad.flatten() for p in module.discriminator.parameters()]))  # type: ignore[union-attr]

    handle = register_optimizer_step_post_hook(watch)
    try:
        fit(module, max_steps=1)
    finally:
        handle.remove()
    after_discriminator, after_generator = steps
    assert torch.equal(after_discriminator, after_generator)


def test_untrained_generator_measures_as_bicubic(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    """An independent chain (Pillow, scikit-image) finds the same PSNR up to 8-bit rounding."""
    rates["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    metrics = fit(make_module(rates), max_steps=1).callback_metrics
    assert float(metrics["val/psnr"]) == pytest.approx(float(metrics["val/psnr_bicubic"]))
    assert float(metrics["val/psnr_gain"]) == pytest.approx(0.0, abs=1e-6)
    values = []
    for batch in batches:
        for photo in batch["image"].permute(0, 2, 3, 1).numpy():
            low = Image.fromarray(photo).resize((8, 8), Image.Resampling.BICUBIC)
            bicubic = low.resize((32, 32), Image.Resampling.BICUBIC)
            values.append(peak_signal_noise_ratio(photo, np.asarray(bicubic)))
    # Pillow's kernel has a = -0.5, torch's enlargement -0.75.
    assert float(metrics["val/psnr"]) == pytest.approx(sum(values) / len(values), abs=0.5)


def test_samples_are_rows_of_bicubic_upscaled_and_truth(
    rates: dict[str, Any], batches: list[Batch]
) -> None:
    with torch.no_grad():
        samples = make_module(rates, num_samples=3).make_samples(batches[0])
    assert samples.shape == (3, 3, 3, 32, 32)
    assert torch.equal(samples[:, 0], samples[:, 1])
    assert torch.equal(samples[:, 2], batches[0]["image"][:3])


def test_settings_that_cannot_work_are_refused(rates: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pretrain_steps is -1"):
        make_module(rates, pretrain_steps=-1)
    for kind, field in (("segmenter", "segmenter_checkpoint"), ("vgg19", "vgg19_weights")):
        with pytest.raises(ValueError, match=rf"module\.perceptual\.{field}: there is no file"):
            make_perceptual_loss(
                kind, segmenter_checkpoint=tmp_path / "no.ckpt", vgg19_weights=None
            )
    with pytest.raises(ValueError, match=r"module\.perceptual\.kind is 'lpips'"):
        make_perceptual_loss("lpips", segmenter_checkpoint=None, vgg19_weights=None)
    assert make_perceptual_loss("none", segmenter_checkpoint=None, vgg19_weights=None) is None


def test_perceptual_features_come_from_a_segmenters_checkpoint(tmp_path: Path) -> None:
    segmenter = SegmentationUNet(widths=(8, 16))
    averaged = SegmentationUNet(widths=(8, 16))
    checkpoint = tmp_path / "last.ckpt"
    content = {
        "network": {"name": "SegmentationUNet", "config": segmenter.config},
        "state_dict": {f"network.{k}": v for k, v in segmenter.state_dict().items()},
        "ema": {"state_dict": averaged.state_dict()},
    }
    torch.save(content, checkpoint)
    loss = make_perceptual_loss("segmenter", segmenter_checkpoint=checkpoint, vgg19_weights=None)
    assert loss is not None
    image, target = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    expected = PerceptualLoss(segmenter_features(averaged))(image, target)
    torch.testing.assert_close(loss(image, target), expected)

    torch.save({**content, "network": {"name": "SRResNet", "config": {}}}, checkpoint)
    with pytest.raises(ValueError, match="holds SRResNet, not a segmenter"):
        make_perceptual_loss("segmenter", segmenter_checkpoint=checkpoint, vgg19_weights=None)
