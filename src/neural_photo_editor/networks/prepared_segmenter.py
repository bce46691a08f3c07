"""A segmenter made ready to serve: batch normalization folded into the convolutions before it.

At inference the normalization is a factor and a shift per channel, which the convolution's weights
and bias take up. This is done when a network is loaded, not when it is exported: it takes
milliseconds, the artifact stays what was trained, and there is one format and digest of it.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from neural_photo_editor.networks.packed_layers import PackedConv
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet


def fold_batch_norms(network: SegmentationUNet) -> SegmentationUNet:
    """Return a copy in evaluation mode, without gradients, that computes the same in less time."""
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for layers in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(layers) - 1):
            conv, norm = layers[index], layers[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[index] = fuse_conv_bn_eval(conv, norm)
                layers[index + 1] = nn.Identity()
    return folded


class PreparedSegmenter(nn.Module):
    """Computes on the CPU, in float32, what a SegmentationUNet computes in evaluation mode.

    The images of a batch are computed one after the other, so that an image's labels are the same
    in every batch. It holds its own copy of the weights and has no parameters and no state_dict.
    """

    def __init__(self, network: SegmentationUNet) -> None:
        super().__init__()
        self.config = network.config
        prepared = fold_batch_norms(network).cpu().float()
        for layers in [
            module for module in prepared.modules() if isinstance(module, nn.Sequential)
        ]:
            for index in range(0, len(layers), 3):  # convolution, what the folding left, ReLU
                conv = layers[index]
                assert isinstance(conv, nn.Conv2d)
                layers[index] = PackedConv(conv, dtype=torch.float32, negative_slope=0.0)
                layers[index + 2] = nn.Identity()
        self._network = (prepared,)  # In a tuple, so that it is no submodule.
        self.eval()

    @property
    def network(self) -> SegmentationUNet:
        """What computes: for its feature maps."""
        return self._network[0]

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """As `SegmentationUNet.forward`: x float, (N, 3, H, W). Returns float32 logits."""
        return torch.cat([self.network(x[i : i + 1].float()) for i in range(len(x))])
