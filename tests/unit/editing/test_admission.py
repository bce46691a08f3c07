"""What is worked on together has a limit; the answers do not show it."""

import io

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditResult, Request, SegmentRequest, UpscaleRequest
from neural_photo_editor.editing.admission import count_pixels, group_requests
from tests.unit.editing.tiny_pipeline import edit_request, make_photo, make_pipeline

PHOTO = encode_png(make_photo(32, 32))  # 1024 pixels


def groups(requests: list[Request], max_pixels: int) -> list[list[int]]:
    return group_requests(requests, max_pixels=max_pixels, scale=4)


def test_pixels_count_as_often_as_they_are_held() -> None:
    photo = make_photo(32, 32)
    several = edit_request(photo, variations=3, response="json")
    assert count_pixels(SegmentRequest(photo=PHOTO), scale=4) == 1024
    assert count_pixels(edit_request(photo), scale=4) == 1024
    assert count_pixels(several, scale=4) == 3 * 1024
    assert count_pixels(UpscaleRequest(photo=PHOTO), scale=4) == 16 * 1024


def test_files_are_not_decoded_to_be_counted() -> None:
    file = io.BytesIO()
    Image.fromarray(make_photo(640, 480)).save(file, "jpeg")
    cut_short = file.getvalue()[:1000]
    assert count_pixels(SegmentRequest(photo=cut_short), scale=4) == 640 * 480


@pytest.mark.parametrize("photo", [b"no image", PHOTO[:20], b"\xff\xd8\xff", b"RIFF1234WEBP"])
def test_what_is_no_image_counts_nothing(photo: bytes) -> None:
    assert count_pixels(SegmentRequest(photo=photo), scale=4) == 0


def test_groups_keep_the_order_and_the_limit() -> None:
    small, large = SegmentRequest(photo=PHOTO), UpscaleRequest(photo=PHOTO)
    assert groups([small] * 5, 2048) == [[0, 1], [2, 3], [4]]
    assert groups([small] * 5, 10_000) == [[0, 1, 2, 3, 4]]
    # One that is too large for any group is one by itself.
    assert groups([small, large, small, small], 2048) == [[0], [1], [2, 3]]
    assert groups([], 2048) == []


def test_a_batch_in_groups_gets_the_same_answers() -> None:
    photos = [make_photo(32, 32, seed) for seed in range(4)]
    requests = [edit_request(photo, seed=seed) for seed, photo in enumerate(photos)]
    requests[2] = requests[2].model_copy(update={"photo": b"no image"})
    together = make_pipeline().run(requests)
    told: list[tuple[int, int]] = []
    pipeline = make_pipeline(max_batch_pixels=2048)
    answers = pipeline.run(
        requests, on_progress=lambda position, now: told.append((position, len(now.x_0)))
    )
    for one, other in zip(answers, together, strict=True):
        if isinstance(one, EditResult) and isinstance(other, EditResult):
            assert one.image == other.image
        else:
            assert isinstance(one, RequestError)
            assert isinstance(other, RequestError)
    assert [isinstance(answer, RequestError) for answer in answers] == [False, False, True, False]
    # The groups came one after the other: {0, 1}, and {2, 3}.
    positions = [position for position, _ in told]
    assert set(positions) == {0, 1, 3}
    assert positions.index(3) > max(np.flatnonzero(np.array(positions) < 2))
