import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from neural_photo_editor.imaging.degradation import (
    Degradation,
    DegradationStage,
    bicubic_downscale,
)
from neural_photo_editor.losses.perceptual import PerceptualLoss, encoder_features
from neural_photo_editor.networks.discriminator import Discriminator
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet
from neural_photo_editor.training.ema import EMA
from neural_photo_editor.training.perceptual import make_perceptual_loss, make_segmenter
from neural_photo_editor.training.portrait_module import Batch
from neural_photo_editor.training.srgan_module import AdversarialLoss, SRGANModule

HARSH = DegradationStage(
    blur_probability=1.0,
    blur_sigma=(1.0, 2.0),
    anisotropic=0.5,
    resize=(0.5, 1.0),
    gaussian_noise=0.5,
    noise_sigma=(10.0, 30.0),
    shot_noise=(0.5, 3.0),
    gray_noise=0.4,
    jpeg=(30, 60),
)


class GrayLevels(nn.Module):
    """A segmenter that tells dark, medium and bright pixels apart."""

    def forward(self, x: Tensor) -> Tensor:
        return -(x.mean(1, keepdim=True) - torch.tensor([-0.5, 0.0, 0.5])[:, None, None]).abs()


def make_module(rates: dict[str, Any], **settings: Any) -> SRGANModule:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "perceptual": PerceptualLoss(encoder_features(SegmentationUNet(widths=(8, 8)))),
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


@pytest.mark.parametrize("loss", ["vanilla", "relativistic"])
def test_generator_step_gives_the_discriminator_no_gradient(
    loss: AdversarialLoss, rates: dict[str, Any], fit: Callable[..., Trainer]
) -> None:
    """Its gradients stay those of its own loss, on real and generated images."""
    module = make_module(
        rates,
        pretrain_steps=0,
        adversarial_weight=1000.0,
        perceptual=None,
        adversarial_loss=loss,
    )
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


@pytest.mark.parametrize("loss", ["vanilla", "relativistic"])
def test_losses_and_verdicts_are_logged_as_defined(
    loss: AdversarialLoss, rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    """The first step's, by hand, with the discriminator as it was before and after its own step."""
    module = make_module(rates, pretrain_steps=0, perceptual=None, adversarial_loss=loss)
    verdicts: list[tuple[Tensor, Tensor]] = []
    high = module.images(batches[0])
    fake = F.interpolate(bicubic_downscale(high, 4), scale_factor=4, mode="bicubic")
    before = copy.deepcopy(module.discriminator)
    metrics = fit(module, max_steps=1).callback_metrics
    for discriminator in (before, module.discriminator):
        with torch.no_grad():
            verdicts.append((discriminator.train()(high), discriminator.train()(fake)))
    if loss == "relativistic":
        verdicts = [(real - fake.mean(), fake - real.mean()) for real, fake in verdicts]
    (real, fake), (real_after, fake_after) = verdicts
    expected = {
        "d_real": real.sigmoid().mean(),
        "d_fake": fake.sigmoid().mean(),
        "loss_discriminator": -(real.sigmoid().log().mean() + (-fake).sigmoid().log().mean()) / 2,
        "loss_adversarial": -fake_after.sigmoid().log().mean(),
    }
    if loss == "relativistic":
        exchanged = (-real_after).sigmoid().log().mean() + fake_after.sigmoid().log().mean()
        expected["loss_adversarial"] = -exchanged / 2
    for name, value in expected.items():
        assert float(metrics[f"train/{name}"]) == pytest.approx(float(value), rel=1e-4), name


def test_average_is_the_generators_alone_and_validation_uses_it(
    rates: dict[str, Any], fit: Callable[..., Trainer]
) -> None:
    """Both phases; the average is summed here from the weights after each step."""
    module = make_module(rates, pretrain_steps=2)
    ema, history, validated = EMA(decay=0.5), [weights(module.network)], []

    class Watch(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            history.append(weights(module.network))

        def on_validation_batch_start(self, *_: object) -> None:
            validated.append(weights(module.network))

    trainer = fit(module, max_steps=6, callbacks=[ema, Watch()])
    average = history[0]
    for n, after in enumerate(history[1:], start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * after
    assert len(history) == 7
    assert ema.num_updates == trainer.global_step == 6
    checkpoint: dict[str, Any] = {}
    ema.on_save_checkpoint(trainer, module, checkpoint)
    state = checkpoint["ema"]["state_dict"]
    assert state.keys() == module.network.state_dict().keys()
    torch.testing.assert_close(torch.cat([v.flatten() for v in state.values()]), average)
    for seen in validated:
        torch.testing.assert_close(seen, average)
    assert torch.equal(weights(module.network), history[-1])


def test_damaged_inputs_depend_on_the_sample_alone(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    module = make_module(rates, degradation=Degradation([HARSH]), seed=3)
    batch = batches[0]
    high = module.images(batch)
    low = module._low(batch, high, seed=3, epoch=1)
    part = {name: value[2:] for name, value in batch.items()}
    assert torch.equal(module._low(part, high[2:], seed=3, epoch=1), low[2:])
    # Validation's damage is always the same, and not that of training.
    rated = [fit(module, max_steps=1).callback_metrics["val/psnr_bicubic"] for _ in range(2)]
    assert rated[0] == rated[1]
    first, _ = module._upscale(batch, high)
    trained = F.interpolate(module._low(batch, high, seed=3, epoch=0), scale_factor=4.0)
    assert float((first - trained).abs().mean()) > 0.02


def test_validation_rates_luma_features_and_regions(
    rates: dict[str, Any], fit: Callable[..., Trainer]
) -> None:
    rates["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    module = make_module(rates, segmenter=GrayLevels())
    metrics = fit(module, max_steps=1).callback_metrics
    for name in ("psnr_y", "ssim_y", "perceptual", "segmenter_agreement", "segmenter_miou"):
        ours, bicubic = (float(metrics[f"val/{name}{suffix}"]) for suffix in ("", "_bicubic"))
        assert ours == pytest.approx(bicubic)  # An untrained network is bicubic interpolation.
        assert 0.0 < ours < (100.0 if name == "psnr_y" else 1.0)
    assert not any(name.startswith("_segmenter") for name in module.state_dict())

    without = fit(make_module(rates, perceptual=None), max_steps=1).callback_metrics
    assert not any("segmenter" in name or "perceptual" in name for name in without)


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
    with pytest.raises(ValueError, match="adversarial_loss is 'hinge'; choose one of vanilla, rel"):
        make_module(rates, adversarial_loss="hinge")
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
    expected = PerceptualLoss(encoder_features(averaged))(image, target)
    torch.testing.assert_close(loss(image, target), expected)
    judge = make_segmenter(checkpoint)
    assert judge is not None
    torch.testing.assert_close(judge(image), averaged.eval()(image))
    assert not any(p.requires_grad for p in judge.parameters())
    assert make_segmenter(None) is make_segmenter(tmp_path / "no.ckpt") is None

    torch.save({**content, "network": {"name": "SRResNet", "config": {}}}, checkpoint)
    with pytest.raises(ValueError, match="holds SRResNet, not a segmenter"):
        make_perceptual_loss("segmenter", segmenter_checkpoint=checkpoint, vgg19_weights=None)


@pytest.mark.slow
def test_relativistic_loss_is_that_of_the_global_batch(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    """Two processes with half of each batch learn what one learns with all of it.

    The discriminator here has no batch norm, whose statistics are each process's own.
    """
    rates["optimizer"] = partial(torch.optim.SGD, lr=0.1)

    def discriminator_after(devices: int) -> Tensor:
        class Share(SRGANModule):
            def images(self, batch: Batch) -> Tensor:
                return super().images(batch)[self.global_rank :: devices]

            def on_train_end(self) -> None:
                torch.save(weights(self.discriminator), tmp_path / f"{devices}-{self.global_rank}")

        torch.manual_seed(0)
        module = Share(
            SRResNet(scale=4, width=8, num_blocks=1),
            discriminator=nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.LeakyReLU(), nn.Conv2d(8, 1, 1)),
            perceptual=None,
            scale=4,
            resolution=32,
            discriminator_optimizer=rates["optimizer"],
            discriminator_lr_scheduler=rates["lr_scheduler"],
            pretrain_steps=0,
            pixel_weight=1.0,
            perceptual_weight=0.0,
            adversarial_weight=1.0,
            adversarial_loss="relativistic",
            **rates,
        )
        strategy = "auto" if devices == 1 else "ddp_fork_find_unused_parameters_true"
        fit(
            module,
            max_steps=3,
            devices=devices,
            strategy=strategy,
            limit_val_batches=0,
            use_distributed_sampler=False,
        )
        return torch.load(tmp_path / f"{devices}-0")

    torch.testing.assert_close(discriminator_after(2), discriminator_after(1))
