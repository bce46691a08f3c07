"""Progress of edits, previews, and canceling one request of a batch."""

from typing import Any

import numpy as np

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditResult, SegmentRequest
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
