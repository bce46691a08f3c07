"""A prepared denoiser against the network that it comes from."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.inference import native_dtype, prepare_for_inference

BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
needs_bfloat16 = pytest.mark.skipif(not BFLOAT16, reason="CPU without bfloat16")


def denoiser(**changes: object) -> DenoisingUNet:
    """Weights away from their initial values: some start at zero and hide what is before."""
    arguments: dict[str, object] = {
        "widths": (16, 32),
        "blocks_per_level": 1,
        "attention_levels": (1,),
        "head_dim": 16,
        "num_groups": 8,
    }
    torch.manual_seed(0)
    network = DenoisingUNet(**(arguments | changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


def inputs(num_images: int = 3, height: int = 16, width: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num_images, 3, height, width, generator=generator)
    return x, torch.arange(1, num_images + 1) * 100


@settings(max_examples=10, deadline=None)
@given(
    widths=st.sampled_from([(16,), (16, 16), (16, 32), (16, 32, 48)]),
    blocks_per_level=st.integers(1, 2),
    stem_factor=st.integers(1, 2),
    head_dim=st.sampled_from([8, 16, None]),
    downsample_padding=st.integers(0, 1),
    cells=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_float32_equals_the_network(
    widths: tuple[int, ...],
    blocks_per_level: int,
    stem_factor: int,
    head_dim: int | None,
    downsample_padding: int,
    cells: tuple[int, int],
) -> None:
    network = denoiser(
        widths=widths,
        blocks_per_level=blocks_per_level,
        stem_factor=stem_factor,
        head_dim=head_dim,
        downsample_padding=downsample_padding,
        attention_levels=(len(widths) - 1,),
    )
    x, t = inputs(2, *(count * network.image_multiple for count in cells))
    with torch.no_grad():
        expected = network(x, t)
    actual = prepare_for_inference(network)(x, t)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


@needs_bfloat16
def test_bfloat16_stays_close() -> None:
    network, (x, t) = denoiser(), inputs()
    with torch.no_grad():
        expected = network(x, t)
    actual = prepare_for_inference(network, dtype=torch.bfloat16)(x, t)
    assert actual.dtype == torch.float32
    assert (actual - expected).norm() < 0.02 * expected.norm()


@needs_bfloat16
def test_int8_stays_close() -> None:
    network, (x, t) = denoiser(widths=(128, 128)), inputs()
    with torch.no_grad():
        expected = network(x, t)
    actual = prepare_for_inference(network, dtype=torch.int8)(x, t)
    assert actual.dtype == torch.float32
    assert (actual - expected).norm() < 0.05 * expected.norm()
    assert not torch.equal(actual, prepare_for_inference(network, dtype=torch.bfloat16)(x, t))


@needs_bfloat16
def test_int8_is_bfloat16_in_a_narrow_network() -> None:
    network, (x, t) = denoiser(), inputs()
    bfloat16 = prepare_for_inference(network, dtype=torch.bfloat16)(x, t)
    assert torch.equal(prepare_for_inference(network, dtype=torch.int8)(x, t), bfloat16)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        pytest.param(torch.bfloat16, marks=needs_bfloat16),
        pytest.param(torch.int8, marks=needs_bfloat16),
    ],
)
def test_an_image_does_not_depend_on_its_batch_to_the_bit(dtype: torch.dtype) -> None:
    network = denoiser(widths=(128, 128)) if dtype == torch.int8 else denoiser()
    prepared, (x, t) = prepare_for_inference(network, dtype=dtype), inputs(8)
    together = prepared(x, t)
    alone = torch.cat([prepared(x[i : i + 1], t[i : i + 1]) for i in range(8)])
    assert torch.equal(together, alone)


def test_the_network_stays_as_it_is() -> None:
    network = denoiser().train()
    before = copy.deepcopy(network.state_dict())
    x, t = inputs(1)
    prepared = prepare_for_inference(network)
    expected = prepared(x, t)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        network.conv_out.bias += 1  # type: ignore[operator]
    assert torch.equal(prepared(x, t), expected)


def test_survives_what_a_pipeline_does_with_a_network() -> None:
    network = denoiser()
    prepared = prepare_for_inference(network).to("cpu").eval()
    assert prepared.config == network.config
    assert prepared.image_multiple == network.image_multiple
    assert list(prepared.parameters()) == []
    out = prepared(*inputs(1))
    out += 1  # Not a tensor of inference mode, which could not be changed here.
    assert not out.requires_grad


def test_memory_format_and_precision_of_the_input_do_not_matter() -> None:
    prepared, (x, t) = prepare_for_inference(denoiser()), inputs()
    expected = prepared(x, t)
    assert torch.equal(prepared(x.to(memory_format=torch.channels_last), t), expected)
    torch.testing.assert_close(prepared(x.double(), t), expected)


def test_the_faster_dtype_is_one_that_is_taken() -> None:
    assert prepare_for_inference(denoiser(), dtype=native_dtype()).dtype == native_dtype()


def test_wrong_dtypes_name_their_remedy() -> None:
    with pytest.raises(ValueError, match=r"choose one of .*torch\.bfloat16"):
        prepare_for_inference(denoiser(), dtype=torch.float16)


def test_an_image_of_the_wrong_size_is_refused() -> None:
    prepared = prepare_for_inference(denoiser())
    with pytest.raises(ValueError, match="multiples of 2"):
        prepared(*inputs(1, 15, 16))
