"""Mean and covariance of features that come in batches, or in several processes."""

from collections.abc import Callable

import torch
from torch import Tensor


class FeatureStatistics:
    """Counts features and sums them up in float64, so that none has to be kept.

    Sums of outer products lose digits where a mean is far larger than its deviation, here about
    2 log10(mean / deviation) of 16: with features of networks one or two.

    Args:
        dimension: D, features of one image.
    """

    def __init__(self, dimension: int) -> None:
        self._count = torch.zeros(1, dtype=torch.float64)
        self._sum = torch.zeros(dimension, dtype=torch.float64)
        self._products = torch.zeros(dimension, dimension, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Count features in: float, (N, D), on the CPU."""
        features = features.double()
        self._count += len(features)
        self._sum += features.sum(dim=0)
        self._products.addmm_(features.T, features)

    def reduced(self, reduce: Callable[[Tensor], Tensor]) -> "FeatureStatistics":
        """Return the statistics of all processes.

        Args:
            reduce: sums a float64 vector of 1 + D + D^2 numbers over the processes; called once.
        """
        dimension = len(self._sum)
        whole = FeatureStatistics(dimension)
        flat = reduce(torch.cat([self._count, self._sum, self._products.flatten()]))
        whole._count, whole._sum = flat[:1], flat[1 : 1 + dimension]
        whole._products = flat[1 + dimension :].reshape(dimension, dimension)
        return whole

    @property
    def count(self) -> int:
        return int(self._count)

    @property
    def mean(self) -> Tensor:
        """float64, (D,)."""
        return self._sum / self._count

    @property
    def covariance(self) -> Tensor:
        """The unbiased one, float64, (D, D).

        Raises:
            ValueError: fewer than two features were counted.
        """
        if self.count < 2:
            raise ValueError(f"{self.count} samples have no covariance: give at least 2")
        mean = self.mean
        return (self._products - self._count * torch.outer(mean, mean)) / (self._count - 1.0)
