import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.autograd.graph import save_on_cpu
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training import throughput
from neural_photo_editor.training.hardware import peak_flops
from neural_photo_editor.training.metrics_csv import MetricsCSV, read_metrics
from neural_photo_editor.training.portrait_module import Batch
from neural_photo_editor.training.progress import Progress
from neural_photo_editor.training.segmenter_module import SegmenterModule
from neural_photo_editor.training.throughput import FlopCount, Throughput
from tests.unit.training.conftest import SIDE


@pytest.fixture
def module(rates: dict[str, Any]) -> SegmenterModule:
    torch.manual_seed(0)
    return SegmenterModule(SegmentationUNet(widths=(8, 16)), resolution=SIDE, **rates)


def test_rates_and_memory_are_logged_and_the_hardware_is_written(
    fit: Callable[..., Trainer], module: SegmenterModule, tmp_path: Path
) -> None:
    callbacks = [Throughput(run_dir=tmp_path)]
    fit(
        module,
        max_steps=6,
        log_every_n_steps=2,
        callbacks=callbacks,
        logger=[MetricsCSV(tmp_path)],
    )
    rows = [row for row in read_metrics(tmp_path / "metrics.csv") if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 3, 5]
    for before, row in zip([None, *rows], rows, strict=False):
        assert 0 < row["train/mfu"] < 1
        assert 0 < row["train/data_wait_share"] < 1
        assert 0.05 < row["train/memory_gib"] < 64
        seconds = 2 * 4 / row["train/images_per_second"]
        waited = 2 * row["train/data_wait_seconds"]
        assert row["train/data_wait_share"] == pytest.approx(waited / seconds, rel=0.05)
        if before is not None:
            assert seconds <= row["time"] - before["time"] + 0.01
    hardware = json.loads((tmp_path / "hardware.json").read_text())
    assert hardware["processes"] == 1
    assert hardware["gpus"] == []
    assert hardware["cpu_cores"] > 0


def test_mfu_is_the_share_of_the_peak_that_counted_operations_take(
    fit: Callable[..., Trainer],
    module: SegmenterModule,
    batches: list[Batch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peak = 1e12
    monkeypatch.setattr(throughput, "peak_flops", lambda device, bf16: peak)
    with FlopCounterMode(display=False) as expected:
        module.training_step(batches[0], 0).backward()
    module.means.pop(lambda t: t)
    fit(
        module,
        max_steps=2,
        callbacks=[Throughput(run_dir=tmp_path)],
        logger=[MetricsCSV(tmp_path)],
    )
    row = read_metrics(tmp_path / "metrics.csv")[0]
    flops_per_image = expected.get_total_flops() / 4
    assert row["train/mfu"] == pytest.approx(
        flops_per_image * row["train/images_per_second"] / peak, rel=1e-5
    )


def test_counting_agrees_with_torch_and_changes_no_bit_of_a_gradient() -> None:
    """Also with tensors kept on the host; torch's own counter does change bits here."""
    torch.manual_seed(0)
    network = DenoisingUNet(widths=(32, 64), attention_levels=(1,), blocks_per_level=1)
    for parameter in network.parameters():  # No layer left at zero: equality must mean something.
        torch.nn.init.normal_(parameter, std=0.05)
    image = torch.randn(2, 3, SIDE, SIDE)

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        network(image, torch.tensor([3, 400])).square().mean().backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    plain = gradients()
    with save_on_cpu(), FlopCount() as count:
        counted = gradients()
    for one, other in zip(plain, counted, strict=True):
        assert torch.equal(one, other)
    with FlopCounterMode(display=False) as expected:
        gradients()
    assert count.flops == expected.get_total_flops() > 0


def test_a_compiled_network_is_compiled_although_operations_are_counted_first(
    fit: Callable[..., Trainer], module: SegmenterModule, tmp_path: Path
) -> None:
    compilations = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compilations.append(inputs)
        return graph.forward

    torch.compiler.reset()
    module.network.compile(backend=backend)
    compiled = module.network._compiled_call_impl
    fit(
        module,
        max_steps=3,
        limit_val_batches=0,
        callbacks=[Throughput(run_dir=tmp_path)],
        logger=[MetricsCSV(tmp_path)],
    )
    assert len(compilations) == 1
    assert module.network._compiled_call_impl is compiled
    assert "train/mfu" in read_metrics(tmp_path / "metrics.csv")[0]


class SlowLoader(DataLoader[Any]):
    """Does arithmetic before each batch, ten times that of a step."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        matrix = torch.ones(600, 600)
        for batch in super().__iter__():
            for _ in range(60):
                matrix = matrix @ matrix * 0
            yield batch


def test_waiting_for_the_loader_is_told_apart_from_computing(
    module: SegmenterModule, batches: list[Batch], tmp_path: Path
) -> None:
    shares = []
    for loader in (DataLoader, SlowLoader):
        run_dir = tmp_path / loader.__name__
        trainer = Trainer(
            max_steps=3,
            accelerator="cpu",
            callbacks=[Throughput(run_dir=run_dir)],
            logger=[MetricsCSV(run_dir)],
            log_every_n_steps=3,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader(batches, batch_size=None))
        (row,) = read_metrics(run_dir / "metrics.csv")
        shares.append(row["train/data_wait_share"])
    assert shares[0] < shares[1]


def test_a_processor_computes_bfloat16_and_float32_at_some_rate() -> None:
    for bf16 in (False, True):
        peak = peak_flops(torch.device("cpu"), bf16=bf16)
        assert peak is not None
        assert 1e8 < peak < 1e15
    assert peak_flops(torch.device("meta"), bf16=True) is None


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", (989.4, 494.7)),
        ("NVIDIA H200 NVL", (835.5, 417.5)),
        ("NVIDIA H100 80GB HBM3", (989.4, 494.7)),
        ("NVIDIA H100 PCIe", (756.5, 378.0)),
        ("NVIDIA A100-SXM4-80GB", (312.0, 156.0)),
        ("NVIDIA L40S", (362.05, 183.0)),
        ("NVIDIA GeForce RTX 4090", (165.2, 82.6)),
        ("NVIDIA A100-PCIE-40GB", (312.0, 156.0)),
        ("NVIDIA A100 80GB PCIe", (312.0, 156.0)),
        ("NVIDIA A30", (165.0, 82.0)),
        ("NVIDIA A40", (149.7, 74.8)),
        ("NVIDIA RTX A6000", (154.8, 77.4)),
        ("NVIDIA L4", (121.0, 60.0)),
        ("NVIDIA B200", (2250.0, 1125.0)),
        ("NVIDIA GH200 480GB", (989.4, 494.7)),
        # Not the ones whose names these begin or end with.
        ("NVIDIA RTX A3000 Laptop GPU", None),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA GB200", None),
        ("NVIDIA RTX 6000 Ada Generation", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A40-12Q", None),  # A virtual GPU.
        ("A card of tomorrow", None),
    ],
)
def test_the_peak_of_a_gpu_follows_from_its_name(
    name: str, tflops: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    for bf16 in (True, False):
        peak = peak_flops(torch.device("cuda"), bf16=bf16)
        expected = None if tflops is None else tflops[0 if bf16 else 1] * 1e12
        assert peak == expected


def test_progress_says_how_much_of_the_time_went_into_waiting_for_data(
    fit: Callable[..., Trainer],
    module: SegmenterModule,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    caplog.set_level(logging.INFO)
    callbacks = [Throughput(run_dir=tmp_path), Progress(label="run", every_s=0)]
    fit(
        module, max_steps=3, log_every_n_steps=1, callbacks=callbacks, logger=[MetricsCSV(tmp_path)]
    )
    lines = [record.getMessage() for record in caplog.records]
    (line,) = [line for line in lines if line.startswith("run: step 3/3 (100 %)")]
    assert "steps/s, loss " in line
    assert "% waiting for data, 0 min 00 s left" in line
