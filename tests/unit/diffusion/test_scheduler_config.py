"""scheduler_config.json against diffusers' own schedulers, and as an inverse pair."""

import json
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, PNDMScheduler
from hypothesis import given
from hypothesis import strategies as st

from neural_photo_editor.diffusion.process import add_noise, predict_x_0
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.diffusion.scheduler_config import (
    from_scheduler_config,
    to_scheduler_config,
)

# google/ddpm-celebahq-256 and its kin, as written by diffusers 0.1.
FIRST_PUBLISHED = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "timestep_values": None,
    "trained_betas": None,
    "variance_type": "fixed_small",
}

endings = st.tuples(st.floats(1e-6, 1e-2), st.floats(1e-2, 0.9))
predictions = st.sampled_from(["epsilon", "v"])
schedules = st.one_of(
    st.builds(
        lambda make, length, ends, prediction: make(length, *ends, prediction),
        st.sampled_from([NoiseSchedule.linear, NoiseSchedule.scaled_linear]),
        st.integers(1, 4000),
        endings,
        predictions,
    ),
    st.builds(NoiseSchedule.cosine, st.integers(1, 4000), predictions),
    st.builds(
        NoiseSchedule.cosine, st.integers(2, 4000), st.just("v"), zero_terminal_snr=st.just(True)
    ),
)


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_noise_and_predicted_image_agree_with_diffusers(
    scheduler: Any, prediction_type: str, beta_schedule: str
) -> None:
    theirs = scheduler(
        beta_schedule=beta_schedule, prediction_type=prediction_type, clip_sample=False
    )
    ours = from_scheduler_config(dict(theirs.config))
    x_0, eps, output = torch.randn(3, 4, 3, 2, 2).unbind()
    t = torch.tensor([1, 7, 500, 990])
    x_t = add_noise(x_0, t=t, eps=eps, schedule=ours)
    torch.testing.assert_close(x_t, theirs.add_noise(x_0, eps, t - 1), atol=1e-5, rtol=1e-5)
    theirs.set_timesteps(1000)
    for i in range(len(t)):
        expected = theirs.step(output[i], int(t[i]) - 1, x_t[i]).pred_original_sample
        actual = predict_x_0(x_t[i : i + 1], t=t[i : i + 1], output=output[i], schedule=ours)
        torch.testing.assert_close(actual[0], expected, atol=1e-5, rtol=1e-4)


@given(schedules)
def test_to_and_from_scheduler_config_are_inverse(schedule: NoiseSchedule) -> None:
    config = json.loads(json.dumps(to_scheduler_config(schedule)))
    assert from_scheduler_config(config) == schedule


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule.linear(),
        NoiseSchedule.scaled_linear(1000, 8.5e-4, 1.2e-2, "v"),
        NoiseSchedule.cosine(1000, "v"),
        NoiseSchedule.linear(prediction="v", zero_terminal_snr=True),
        NoiseSchedule.cosine(1000, "v", snr_factor=0.25),
    ],
)
def test_diffusers_takes_every_setting(schedule: NoiseSchedule) -> None:
    config = to_scheduler_config(schedule)
    theirs = DDPMScheduler.from_config(config)
    assert {name: theirs.config[name] for name in config if name[0] != "_"} == {
        name: value for name, value in config.items() if name[0] != "_"
    }
    # It rescales in float32, where 1 - alpha has fewer digits.
    rtol = 2e-3 if schedule.zero_terminal_snr else 1e-6
    torch.testing.assert_close(theirs.betas.double(), schedule.betas, rtol=rtol, atol=0)


def test_the_first_published_configuration_and_an_empty_one() -> None:
    assert from_scheduler_config(FIRST_PUBLISHED) == NoiseSchedule.linear(1000)
    assert from_scheduler_config({}) == NoiseSchedule.linear(1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"thresholding": True}, "thresholding = True: only False fits"),
        ({"clip_sample_range": 2.0}, "clip_sample_range"),
        ({"rescale_betas_zero_snr": True}, "zero_terminal_snr with prediction 'epsilon'"),
        ({"predict_epsilon": False}, "predict_epsilon"),
        ({"prediction_type": "sample"}, "prediction_type = 'sample' does not fit"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule = 'sigmoid' does not fit"),
        ({"beta_end": 1.5}, "beta_end"),
        ({"a_new_feature": 1}, "a_new_feature, which this program does not know"),
        (dict(PNDMScheduler().config) | {"_class_name": "PNDMScheduler"}, "PNDMScheduler does not"),
    ],
)
def test_features_without_a_counterpart_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_scheduler_config(FIRST_PUBLISHED | change)
