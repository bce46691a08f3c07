"""Data of which everything is known in closed form: independent pixels of N(mean, std^2)."""

from dataclasses import dataclass

from torch import Tensor

from neural_photo_editor.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class GaussianData:
    """The optimal denoiser of such data, and where the probability-flow ODE leads."""

    schedule: NoiseSchedule
    mean: float = 0.3
    std: float = 0.4

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[eps | x_t]; t: int64, (N,)."""
        alpha_bar_t = self.schedule.alpha_bar[t].to(x_t).reshape(-1, 1, 1, 1)
        noise = (1 - alpha_bar_t).sqrt()
        return noise * (x_t - alpha_bar_t.sqrt() * self.mean) / self._variance(alpha_bar_t)

    def x_0(self, x_t: Tensor, t: int) -> Tensor:
        """E[x_0 | x_t]."""
        alpha_bar_t = self.schedule.alpha_bar[t]
        gain = alpha_bar_t.sqrt() * self.std**2 / self._variance(alpha_bar_t)
        return self.mean + gain * (x_t - alpha_bar_t.sqrt() * self.mean)

    def flow(self, x_t: Tensor, *, t: int, s: int) -> Tensor:
        """Solve the probability-flow ODE exactly: it keeps (x - mean_t) / std_t as it is."""
        alpha_bar_t, alpha_bar_s = self.schedule.alpha_bar[t], self.schedule.alpha_bar[s]
        quantile = (x_t - alpha_bar_t.sqrt() * self.mean) / self._variance(alpha_bar_t).sqrt()
        return alpha_bar_s.sqrt() * self.mean + self._variance(alpha_bar_s).sqrt() * quantile

    def _variance(self, alpha_bar: Tensor) -> Tensor:
        return alpha_bar * self.std**2 + 1 - alpha_bar
