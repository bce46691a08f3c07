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

    With `relative_logits` it is the relativistic average discriminator's loss (ESRGAN, Eq. 1),
    and the generator's (Eq. 2) with real and fake exchanged.

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


def relative_logits(
    logits_real: Tensor, logits_fake: Tensor, *, mean_real: Tensor, mean_fake: Tensor
) -> tuple[Tensor, Tensor]:
    """How much more real than the average of the other kind (Jolicoeur-Martineau 2018, section 4).

    Args:
        logits_real, logits_fake: float, any shape, C(x) of photographs and of generated images.
        mean_real, mean_fake: their means over the global batch, scalars.

    Returns:
        C(x_r) - E[C(x_f)] and C(x_f) - E[C(x_r)], float32.
    """
    return logits_real.float() - mean_fake, logits_fake.float() - mean_real
