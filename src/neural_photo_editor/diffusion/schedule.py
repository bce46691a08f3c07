"""The noise schedule: how much of the image is left at each timestep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v"]
"""What the denoiser's output means."""

ScheduleKind = Literal["linear", "scaled_linear", "cosine"]
"""How the variances go from t = 1 to t = T, see :attr:`NoiseSchedule.betas`."""

STRENGTH_SNR_DB = (10.0, -20.0)
"""Signal-to-noise ratio in decibels at strength 0 and at strength 1."""

COSINE_OFFSET = 0.008
"""s of Improved DDPM, Eq. 17."""

COSINE_MAX_BETA = 0.999
"""Where that paper cuts beta, so that no step destroys everything."""

_SPEC_DEFAULTS: dict[str, Any] = {"snr_factor": 1.0, "zero_terminal_snr": False}
"""Fields that a specification of any kind may hold, and what holds where they are absent."""


@dataclass(frozen=True)
class NoiseSchedule:
    """A schedule of noise variances, as data, and what is predicted.

    Timesteps run from 1 to ``num_timesteps``; t = 0 is the clean image. Two schedules are equal,
    and hash alike, when their numbers are equal.

    Attributes:
        num_timesteps: T, at least 1.
        beta_start: variance of the noise added at t = 1, in (0, 1); None for "cosine".
        beta_end: variance of the noise added at t = T, in (0, 1); None for "cosine".
        prediction: what a denoiser of this schedule puts out: "epsilon", the noise, or "v" =
            sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022, section 4),
            whose errors do not grow with t.
        kind: "linear", "scaled_linear" or "cosine".
        snr_factor: every signal-to-noise ratio is multiplied by this; 1 leaves the kind's own.
            (64 / side)^2 gives images of `side` pixels the noise that the kind gives to images of
            64: with more pixels the same noise hides less (Hoogeboom et al. 2023).
        zero_terminal_snr: leave nothing of the image at t = T (Lin et al. 2024), so that sampling
            from pure noise starts where training ended. Needs prediction "v": at T, eps is the
            input itself and says nothing about the image.
    """

    num_timesteps: int = 500
    beta_start: float | None = 1e-4
    beta_end: float | None = 2e-2
    prediction: Prediction = "epsilon"
    kind: ScheduleKind = "linear"
    snr_factor: float = 1.0
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.num_timesteps < 1:
            raise ValueError(f"num_timesteps is {self.num_timesteps}; it must be at least 1")
        start, end = self.beta_start, self.beta_end
        if "beta_start" not in _spec_fields(self.kind):
            if (start, end) != (None, None):
                raise ValueError(f"a {self.kind} noise schedule has no beta_start and beta_end")
        elif start is None or end is None or not 0.0 < start <= end < 1.0:
            raise ValueError(
                f"beta_start={self.beta_start}, beta_end={self.beta_end}; "
                "choose 0 < beta_start <= beta_end < 1"
            )
        if self.prediction not in get_args(Prediction):
            raise ValueError(f"prediction is {self.prediction!r}; choose epsilon or v")
        if not 0.0 < self.snr_factor < math.inf:
            raise ValueError(
                f"snr_factor is {self.snr_factor}; choose a number above 0, 1 for none"
            )
        if self.zero_terminal_snr and (self.prediction != "v" or self.num_timesteps < 2):
            raise ValueError(
                f"zero_terminal_snr with prediction {self.prediction!r} and {self.num_timesteps} "
                "timesteps; choose v and at least 2, or leave zero_terminal_snr off"
            )

    @classmethod
    def linear(
        cls,
        num_timesteps: int = 500,
        beta_start: float = 1e-4,
        beta_end: float = 2e-2,
        prediction: Prediction = "epsilon",
        *,
        snr_factor: float = 1.0,
        zero_terminal_snr: bool = False,
    ) -> "NoiseSchedule":
        """DDPM (Ho et al. 2020), section 4: beta_t goes from start to end in equal steps."""
        ends = float(beta_start), float(beta_end)
        return cls(num_timesteps, *ends, prediction, "linear", float(snr_factor), zero_terminal_snr)

    @classmethod
    def scaled_linear(
        cls,
        num_timesteps: int,
        beta_start: float,
        beta_end: float,
        prediction: Prediction = "epsilon",
        *,
        snr_factor: float = 1.0,
        zero_terminal_snr: bool = False,
    ) -> "NoiseSchedule":
        """Latent diffusion (Rombach et al. 2022, code): sqrt(beta_t) goes in equal steps."""
        ends = float(beta_start), float(beta_end)
        return cls(
            num_timesteps, *ends, prediction, "scaled_linear", float(snr_factor), zero_terminal_snr
        )

    @classmethod
    def cosine(
        cls,
        num_timesteps: int,
        prediction: Prediction = "epsilon",
        *,
        snr_factor: float = 1.0,
        zero_terminal_snr: bool = False,
    ) -> "NoiseSchedule":
        """Improved DDPM (Nichol & Dhariwal 2021), Eq. 17: alpha_bar_t is a squared cosine."""
        return cls(
            num_timesteps, None, None, prediction, "cosine", float(snr_factor), zero_terminal_snr
        )

    @cached_property
    def betas(self) -> Tensor:
        """Variances beta_1 .. beta_T, float64, (T,)."""
        if self.snr_factor == 1.0 and not self.zero_terminal_snr:
            return self._betas_of_kind
        return 1.0 - self.alpha_bar[1:] / self.alpha_bar[:-1]

    @cached_property
    def _betas_of_kind(self) -> Tensor:
        T = self.num_timesteps
        if self.kind == "cosine":
            angle = (torch.arange(T + 1, dtype=torch.float64) / T + COSINE_OFFSET) / (
                1.0 + COSINE_OFFSET
            )
            alpha_bar = torch.cos(angle * math.pi / 2.0).square()
            return (1.0 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=COSINE_MAX_BETA)
        assert self.beta_start is not None
        assert self.beta_end is not None
        if self.kind == "scaled_linear":
            ends = self.beta_start**0.5, self.beta_end**0.5
            return torch.linspace(*ends, T, dtype=torch.float64).square()
        return torch.linspace(self.beta_start, self.beta_end, T, dtype=torch.float64)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Products of (1 - beta), float64, (T + 1,), indexed by t; ``alpha_bar[0]`` is 1."""
        one = torch.ones(1, dtype=torch.float64)
        alpha_bar = torch.cat([one, torch.cumprod(1.0 - self._betas_of_kind, dim=0)])
        if self.snr_factor != 1.0:
            # SNR = alpha_bar / (1 - alpha_bar), solved for alpha_bar; 1 stays 1.
            signal = self.snr_factor * alpha_bar
            alpha_bar = signal / (signal + 1.0 - alpha_bar)
        return _rescale_to_zero_terminal_snr(alpha_bar) if self.zero_terminal_snr else alpha_bar

    def snr_db(self, t: int) -> float:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t) in decibels, for t in 1..T.

        It is -inf where nothing of the image is left.
        """
        self.check_timestep(t)
        alpha_bar_t = float(self.alpha_bar[t])
        if alpha_bar_t == 0.0:
            return -math.inf
        return 10.0 * math.log10(alpha_bar_t / (1.0 - alpha_bar_t))

    def timestep_for_strength(self, strength: float) -> int:
        """Return the timestep whose log-SNR is nearest to that of a strength.

        Strength is linear in log-SNR, from +10 dB at 0 to -20 dB at 1, because t itself is not:
        half of a linear schedule's timesteps lie below -8 dB.

        Raises:
            ValueError: strength is not in 0..1.
        """
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"strength is {strength}; choose a number from 0 to 1")
        low, high = STRENGTH_SNR_DB
        target_db = low + strength * (high - low)
        alpha_bar = self.alpha_bar[1:]
        snr_db = 10.0 * torch.log10(alpha_bar / (1.0 - alpha_bar))
        return 1 + int(torch.argmin((snr_db - target_db).abs()))

    def strength_for_timestep(self, t: int) -> float:
        """Return the strength of a timestep; SNRs outside +10..-20 dB give 0 or 1."""
        low, high = STRENGTH_SNR_DB
        return min(1.0, max(0.0, (self.snr_db(t) - low) / (high - low)))

    def check_timestep(self, t: int) -> None:
        """Raise ValueError unless t is in 1..T."""
        if not 1 <= t <= self.num_timesteps:
            raise ValueError(f"timestep is {t}; choose one from 1 to {self.num_timesteps}")

    def to_spec(self) -> dict[str, Any]:
        """Return the JSON form that travels in artifacts; :meth:`from_spec` is the inverse."""
        spec = {name: getattr(self, name) for name in ("kind", *_spec_fields(self.kind))}
        # As they were before there were these two: equal schedules have one form.
        changed = {name: getattr(self, name) for name in _SPEC_DEFAULTS}
        return spec | {n: value for n, value in changed.items() if value != _SPEC_DEFAULTS[n]}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "NoiseSchedule":
        """Rebuild a schedule from :meth:`to_spec`.

        Raises:
            ValueError: an unknown kind, or a number is missing, superfluous or out of range.
        """
        values = dict(spec)
        kind = values.pop("kind", None)
        expected = _spec_fields(kind)
        if set(values) - _SPEC_DEFAULTS.keys() != set(expected):
            raise ValueError(
                f"{kind} noise schedule with {sorted(values)}; expected exactly "
                f"{sorted(expected)}, and {sorted(_SPEC_DEFAULTS)} where they apply"
            )
        if kind == "cosine":
            return cls.cosine(**values)
        return cls.scaled_linear(**values) if kind == "scaled_linear" else cls.linear(**values)


def _rescale_to_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Lin et al. (2024), Algorithm 1: shift and scale sqrt(alpha_bar) to end at exactly 0.

    The first timestep keeps its value. alpha_bar: float64, (T + 1,), ``alpha_bar[0]`` is 1.
    """
    root = alpha_bar.sqrt()
    first, last = root[1], root[-1]
    rescaled = ((root - last) * (first / (first - last))).square()
    rescaled[0] = 1.0  # t = 0, which the paper does not count, stays the clean image.
    return rescaled


def _spec_fields(kind: object) -> tuple[str, ...]:
    """Return the fields of a specification of this kind, but for the kind itself."""
    if kind not in get_args(ScheduleKind):
        known = ", ".join(get_args(ScheduleKind))
        raise ValueError(
            f"noise schedule of kind {kind!r}; this version knows {known}: choose one of these, "
            "or update the program"
        )
    if kind == "cosine":
        return ("num_timesteps", "prediction")
    return ("num_timesteps", "beta_start", "beta_end", "prediction")


@lru_cache(maxsize=16)
def signal_noise_tables(schedule: NoiseSchedule, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return sqrt(alpha_bar) and sqrt(1 - alpha_bar), float32, (T + 1,), on a device.

    Kept per device, so that a training step copies nothing from the host.
    """
    alpha_bar = schedule.alpha_bar
    # Made outside inference mode even when first asked for inside it: training may use it later.
    with torch.inference_mode(False):
        signal = alpha_bar.sqrt().to(torch.float32).to(device)
        noise = (1.0 - alpha_bar).sqrt().to(torch.float32).to(device)
    return signal, noise
