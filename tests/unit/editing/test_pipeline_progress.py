"""Progress of edits, previews, and canceling one request of a batch."""

from typing import Any

import numpy as np

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditResult, SegmentRequest, UpscaleRequest
from neural_photo_editor.editing.progress import EditProgress
from tests.unit.editing.tiny_pipeline import edit_request, make_photo, make_pipeline

PAINT: dict[str, Any] = {"color": "#30c060", "strength": 0.6}


def _batch() -> list[Any]:
    photo = make_photo()
    return [
        SegmentRequest(photo=edit_request(photo).photo),
        edit_request(photo, steps=4, **PAINT),
        edit_request(photo, steps=6, variations=2, response="json", **PAINT),
        edit_request(photo, steps=3, resamples=2, seed=3, **PAINT),
    ]


def _images(answers: list[Any]) -> list[bytes]:
    assert not [answer for answer in answers if isinstance(answer, RequestError)]
    return [answer.image for answer in answers]


def test_every_step_of_every_edit_is_told() -> None:
    told: dict[int, list[EditProgress]] = {}
    answers = make_pipeline().run(
        _batch(), on_progress=lambda index, progress: told.setdefault(index, []).append(progress)
    )
    assert _images(answers) == _images(make_pipeline().run(_batch()))
    assert sorted(told) == [1, 2, 3]
    for index, total, variations in ((1, 4, 1), (2, 6, 2), (3, 5, 1)):
        assert [progress.step for progress in told[index]] == list(range(1, total + 1))
        assert {progress.total_steps for progress in told[index]} == {total}
        assert told[index][0].x_0.shape == (variations, 3, 32, 32)
    preview = told[2][-1].preview(1)
    assert (preview.shape, preview.dtype) == ((32, 32, 3), np.uint8)


def test_a_canceled_edit_stops_and_the_others_do_not_notice() -> None:
    steps: list[int] = []

    def cancel_second(index: int, progress: EditProgress) -> bool:
        if index == 2:
            steps.append(progress.step)
        return not (index == 2 and progress.step == 2)

    expected = _images(make_pipeline().run(_batch()))
    answers = make_pipeline().run(_batch(), on_progress=cancel_second)
    canceled = answers.pop(2)
    assert isinstance(canceled, RequestError)
    assert (canceled.status, canceled.detail) == (409, "the edit was canceled")
    assert steps == [1, 2]
    assert _images(answers) == expected[:2] + expected[3:]


def test_a_batch_canceled_as_a_whole_ends_at_once() -> None:
    pipeline = make_pipeline()
    answers = pipeline.run(_batch(), on_progress=lambda index, progress: False)
    assert [isinstance(answer, RequestError) for answer in answers] == [False, True, True, True]
    assert sum(pipeline.denoiser.batch_sizes) == 4  # type: ignore[arg-type]


def test_a_callback_that_fails_fails_its_own_request_only() -> None:
    def fail_first(index: int, progress: EditProgress) -> None:
        if index == 1:
            raise OSError("the listener is gone")

    answers = make_pipeline().run(_batch(), on_progress=fail_first)
    assert isinstance(answers[1], RequestError)
    assert answers[1].status == 500
    assert "listener" not in str(answers[1].to_problem())
    assert isinstance(answers[3], EditResult)


def test_one_that_is_not_wanted_is_given_up_before_any_work() -> None:
    late = RequestError(504, "too late", field=None, remedy="hurry")

    def check(position: int) -> None:
        if position in (0, 2):
            raise late

    pipeline = make_pipeline()
    expected = make_pipeline().run(_batch())
    answers = pipeline.run(_batch(), check=check)
    assert [answers[0], answers[2]] == [late, late]
    assert _images([answers[1], answers[3]]) == _images([expected[1], expected[3]])
    assert sum(pipeline.denoiser.batch_sizes) == 4 + 5  # type: ignore[arg-type]


def test_every_step_asks_whether_an_edit_is_still_wanted() -> None:
    told: list[int] = []

    def on_progress(index: int, progress: EditProgress) -> None:
        if index == 2:
            told.append(progress.step)

    def check(position: int) -> None:
        if position == 2 and told == [1, 2, 3]:
            raise RequestError(504, "too late", field=None, remedy="hurry")

    expected = make_pipeline().run(_batch())
    answers = make_pipeline().run(_batch(), on_progress, check=check)
    assert told == [1, 2, 3]
    late = answers.pop(2)
    assert isinstance(late, RequestError)
    assert late.status == 504
    assert _images(answers) == _images(expected[:2] + expected[3:])


def test_every_tile_asks_whether_a_photo_is_still_to_be_upscaled() -> None:
    asked: list[int] = []

    def check(position: int) -> None:
        asked.append(position)
        if len(asked) == 4:
            raise RequestError(409, "not wanted", field=None, remedy="none")

    photo = edit_request(make_photo(256, 1024)).photo  # Four tiles.
    (answer,) = make_pipeline().run([UpscaleRequest(photo=photo)], check=check)
    assert isinstance(answer, RequestError)
    assert len(asked) == 4


def test_a_check_that_fails_fails_its_own_request_only() -> None:
    def check(position: int) -> None:
        if position == 1:
            raise OSError("no clock")

    answers = make_pipeline().run(_batch(), check=check)
    assert isinstance(answers[1], RequestError)
    assert answers[1].status == 500
    _images([answers[0], answers[2], answers[3]])


def test_the_steps_of_a_request_are_known_beforehand() -> None:
    pipeline = make_pipeline()
    assert [pipeline.planned_steps(request) for request in _batch()] == [0, 4, 12, 5]
    impossible = edit_request(make_photo(), timestep=2, steps=3)
    assert pipeline.planned_steps(impossible) == 0
