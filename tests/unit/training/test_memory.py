import pytest
import torch
from torch import Tensor, nn

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet
from neural_photo_editor.training.memory import blocks, checkpoint_activations


@pytest.fixture
def denoiser() -> DenoisingUNet:
    torch.manual_seed(0)
    network = DenoisingUNet(widths=(16, 32), attention_levels=(1,), head_dim=16, num_groups=8)
    for parameter in network.parameters():  # Its last layers start at zero, without gradients.
        nn.init.normal_(parameter, std=0.05)
    return network


def _gradients(network: nn.Module) -> tuple[Tensor, dict[str, Tensor], int]:
    """Return output, gradients, and the number of values kept for the backward pass."""
    network.zero_grad()
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(image, torch.tensor([3, 400]))
    out.square().mean().backward()
    gradients = {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }
    return out.detach(), gradients, kept


def test_checkpointed_activations_give_the_same_gradients_with_less_memory(
    denoiser: DenoisingUNet,
) -> None:
    names = list(denoiser.state_dict())
    expected, gradients, kept_before = _gradients(denoiser)
    checkpoint_activations(denoiser)
    out, recomputed, kept_after = _gradients(denoiser)
    assert list(denoiser.state_dict()) == names
    assert torch.equal(out, expected)
    assert recomputed.keys() == gradients.keys()
    assert all(torch.equal(recomputed[name], gradients[name]) for name in gradients)
    assert any(gradient.any() for gradient in gradients.values())
    assert kept_after < 0.4 * kept_before


def test_blocks_hold_nearly_all_weights_and_none_twice(denoiser: DenoisingUNet) -> None:
    for network in (denoiser, SRResNet(width=32, num_blocks=4), SegmentationUNet(widths=(16, 32))):
        of_blocks = [p for block in blocks(network) for p in block.parameters()]
        assert len({id(p) for p in of_blocks}) == len(of_blocks)
        total = sum(p.numel() for p in network.parameters())
        assert sum(p.numel() for p in of_blocks) > 0.5 * total


def test_batch_normalization_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activation_checkpointing is true.*batch normalization"):
        checkpoint_activations(SegmentationUNet(widths=(8, 16)))
