import math

import pytest
import torch

from neural_photo_editor.training.lr_schedule import warmup_cosine


def rates(steps: int, **settings: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, **settings)  # type: ignore[arg-type]
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_grows_to_the_optimizers_rate_then_falls_to_the_final_factor_and_stays() -> None:
    values = rates(130, warmup_steps=4, total_steps=104, final_factor=0.1)
    assert values[:4] == pytest.approx([2.0 * n / 5 for n in (1, 2, 3, 4)])
    assert values[4] == pytest.approx(2.0)
    assert values[54] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))  # Half of the cosine.
    assert values[29] == pytest.approx(2.0 * (0.1 + 0.45 * (1 + math.cos(math.pi / 4))))
    assert values[104:] == pytest.approx([0.2] * 26)


def test_warm_up_is_at_most_a_tenth_of_the_run() -> None:
    assert max(rates(20, warmup_steps=500, total_steps=20, final_factor=0.0)) == pytest.approx(2.0)


def test_without_steps_to_fall_the_final_factor_holds_from_the_start() -> None:
    assert rates(3, warmup_steps=5, total_steps=0, final_factor=0.1) == pytest.approx([0.2] * 3)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"warmup_steps": -1, "total_steps": 5, "final_factor": 0.1}, "warmup_steps"),
        ({"warmup_steps": 0, "total_steps": -1, "final_factor": 0.1}, "total_steps"),
        ({"warmup_steps": 0, "total_steps": 5, "final_factor": 1.5}, "final_factor"),
    ],
)
def test_refuses_settings_out_of_range(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        rates(1, **settings)
