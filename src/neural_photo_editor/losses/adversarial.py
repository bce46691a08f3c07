"""Losses of the adversarial phase (SRGAN; Goodfellow et al. 2014)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(logits_fake: Tensor) -> Tensor:
    """-log D(G(z)), the non-saturating generator loss (SRGAN, Eq. 6).

    Args:
        logits_fake: float, any shape, the discriminator's verdict on generated images.

    Returns:
        float32 scalar, the mean over all logits.
    """
    logits = logits_fake.float()
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """-(log D(x) + log(1 - D(G(z)))) / 2 (Goodfellow et al. 2014, Eq. 1; the mean of both halves).

    Args:
        logits_real, logits_fake: float, any shape, verdicts on photographs and generated images
            (detached from the generator).

    Returns:
        float32 scalar.
    """
    real, fake = logits_real.float(), logits_fake.float()
    loss_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    loss_fake = F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    return (loss_real + loss_fake) / 2
