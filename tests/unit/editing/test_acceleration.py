"""Number formats by configuration; what needs a GPU runs here as far as a CPU can."""

import pytest
import torch

from neural_photo_editor.editing.acceleration import Acceleration, InBfloat16, accelerate
from neural_photo_editor.networks.inference import PreparedDenoiser, native_dtype
from neural_photo_editor.networks.prepared_upscaler import PreparedUpscaler
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from tests.unit.editing.tiny_pipeline import random_networks

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", native_dtype()), ("float32", torch.float32)],
)
def test_the_denoiser_is_prepared_in_the_precision_asked_for(
    precision: str, dtype: torch.dtype
) -> None:
    denoiser = random_networks()["denoiser"]
    options = Acceleration(precision=precision)  # type: ignore[arg-type]
    fast = accelerate(denoiser, device=CPU, acceleration=options)
    assert isinstance(fast, PreparedDenoiser)
    assert fast.dtype == dtype


def test_a_cpu_has_faster_forms_of_all_three_networks() -> None:
    networks = random_networks()
    options = Acceleration(precision="float32", compile="default")
    fast = {
        name: accelerate(network, device=CPU, acceleration=options)
        for name, network in networks.items()
    }
    assert isinstance(fast["denoiser"], PreparedDenoiser)
    assert isinstance(fast["upscaler"], PreparedUpscaler)
    assert isinstance(fast["segmenter"], SegmentationUNet)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in fast["segmenter"].modules())
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        for name in ("upscaler", "segmenter"):
            expected = networks[name].eval()(x)
            torch.testing.assert_close(fast[name](x), expected, atol=1e-5, rtol=1e-4)


def test_the_upscaler_takes_the_precision_that_suits_the_cpu() -> None:
    fast = accelerate(random_networks()["upscaler"], device=CPU, acceleration=Acceleration())
    assert fast.dtype == native_dtype()


def test_autocast_computes_nearly_the_same_and_returns_float32() -> None:
    upscaler = random_networks()["upscaler"].eval()
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        expected = upscaler(x)
        result = InBfloat16(upscaler, "cpu")(x)
    assert result.dtype == torch.float32
    assert not torch.equal(result, expected)
    spread = expected.std()
    torch.testing.assert_close(result / spread, expected / spread, atol=0.1, rtol=0)


def test_a_gpu_computes_float32_and_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    segmenter = random_networks()["segmenter"]
    accelerate(segmenter, device=CPU, acceleration=Acceleration())
    assert torch.backends.cudnn.allow_tf32
    fast = accelerate(segmenter, device=torch.device("meta"), acceleration=Acceleration())
    assert not torch.backends.cudnn.allow_tf32
    assert fast(torch.zeros(1, 3, 16, 16, device="meta")).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_on_a_gpu_the_networks_move_and_answer_nearly_the_same(
    precision: str, channels_last: bool
) -> None:
    upscaler = random_networks()["upscaler"].eval()
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    options = Acceleration(precision=precision, channels_last=channels_last)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = upscaler(x)
        fast = accelerate(upscaler, device=torch.device("cuda"), acceleration=options)
        result = fast(x.cuda()).cpu()
    assert isinstance(fast, InBfloat16) == (precision == "auto")
    spread = expected.std()
    torch.testing.assert_close(result / spread, expected / spread, atol=0.1, rtol=0)
