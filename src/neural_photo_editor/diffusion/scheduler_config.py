"""diffusers' scheduler_config.json as a NoiseSchedule, and back."""

from collections.abc import Mapping
from typing import Any

from neural_photo_editor.diffusion.schedule import NoiseSchedule, Prediction, ScheduleKind

_CLASSES = ("DDPMScheduler", "DDIMScheduler")
_KINDS: dict[str, ScheduleKind] = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
}
_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}

# What a scheduler can vary and NoiseSchedule cannot, with the only value that fits.
_REQUIRED = {
    "trained_betas": None,
    "thresholding": False,
    "clip_sample_range": 1.0,
    "predict_epsilon": True,  # before diffusers 0.10
}

# How diffusers samples; the editor has samplers of its own.
_OF_SAMPLING = {
    "clip_sample",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "set_alpha_to_one",
    "steps_offset",
    "tensor_format",
    "timestep_spacing",
    "timestep_values",
    "variance_type",
}
_TRANSLATED = {
    "beta_end",
    "beta_schedule",
    "beta_start",
    "num_train_timesteps",
    "prediction_type",
    "rescale_betas_zero_snr",
}


def from_scheduler_config(config: Mapping[str, Any]) -> NoiseSchedule:
    """Translate a DDPMScheduler or DDIMScheduler; its t = 0 is our t = 1.

    Raises:
        ValueError: another scheduler, or a feature that NoiseSchedule does not have; names it.
    """
    scheduler = config.get("_class_name", _CLASSES[0])
    if scheduler not in _CLASSES:
        raise ValueError(
            f"a {scheduler} does not fit: save the model with {' or '.join(_CLASSES)}, "
            f"as {_CLASSES[0]}.from_config makes it"
        )
    for name, value in _REQUIRED.items():
        if config.get(name, value) != value:
            raise ValueError(f"{scheduler} with {name} = {config[name]!r}: only {value!r} fits")
    names = {name for name in config if not name.startswith("_")}
    unknown = sorted(names - _REQUIRED.keys() - _OF_SAMPLING - _TRANSLATED)
    if unknown:
        raise ValueError(
            f"{scheduler} with {', '.join(unknown)}, which this program does not know: remove what "
            "does not change the noise"
        )
    kind = _translate(config, "beta_schedule", _KINDS, default="linear")
    prediction = _translate(config, "prediction_type", _PREDICTIONS, default="epsilon")
    num_timesteps = int(config.get("num_train_timesteps", 1000))
    zero = bool(config.get("rescale_betas_zero_snr", False))
    if kind == "cosine":
        return NoiseSchedule.cosine(num_timesteps, prediction, zero_terminal_snr=zero)
    ends = config.get("beta_start", 1e-4), config.get("beta_end", 2e-2)
    make = NoiseSchedule.linear if kind == "linear" else NoiseSchedule.scaled_linear
    return make(num_timesteps, *ends, prediction, zero_terminal_snr=zero)


def to_scheduler_config(schedule: NoiseSchedule) -> dict[str, Any]:
    """Return the DDPMScheduler of a schedule; :func:`from_scheduler_config` is the inverse.

    A schedule with an snr_factor has no name there: its betas are listed, which is not read back.
    """
    theirs = {ours: name for name, ours in (*_KINDS.items(), *_PREDICTIONS.items())}
    config: dict[str, Any] = {
        "_class_name": _CLASSES[0],
        "num_train_timesteps": schedule.num_timesteps,
        "beta_schedule": theirs[schedule.kind],
        "prediction_type": theirs[schedule.prediction],
        "clip_sample": True,
        "variance_type": "fixed_small",  # the posterior's, as our ancestral sampler takes it
    }
    if schedule.beta_start is not None:
        config |= {"beta_start": schedule.beta_start, "beta_end": schedule.beta_end}
    if schedule.snr_factor != 1.0:
        config["trained_betas"] = schedule.betas.tolist()
    elif schedule.zero_terminal_snr:
        config["rescale_betas_zero_snr"] = True
    return config


def _translate(
    config: Mapping[str, Any], name: str, table: Mapping[str, Any], *, default: str
) -> Any:
    value = config.get(name, default)
    if value not in table:
        raise ValueError(f"{name} = {value!r} does not fit: only {', '.join(table)} do")
    return table[value]
