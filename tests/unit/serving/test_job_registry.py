"""Jobs as the worker and its listeners share them: canceled, listened to, ended, forgotten."""

from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread

import numpy as np
import pytest

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.serving.job_registry import EventStream, JobRegistry, parse_job_id
from neural_photo_editor.serving.previews import Preview

ONE, OTHER = "1" * 32, "2" * 32


def preview(step: int) -> Preview:
    return Preview(step, 9, (0, 0, 8, 8), 8, 8, np.zeros((8, 8, 3), np.uint8))


def read_all(stream: EventStream) -> Iterator[int]:
    while not stream.ended:
        event = stream.next(timeout_s=60.0)
        if event is not None:
            yield event.step


@pytest.mark.parametrize("text", ["", "1" * 31, "1" * 33, "g" * 32, "1" * 32 + "\n", "../" * 11])
def test_only_32_hexadecimal_digits_are_an_id(text: str) -> None:
    assert parse_job_id(text) is None
    assert parse_job_id("AB" * 16) == "ab" * 16


def test_listeners_hear_of_their_job_until_it_ends() -> None:
    jobs = JobRegistry()
    with jobs.listen(ONE) as early, jobs.listen(ONE) as another, jobs.listen(OTHER) as elsewhere:
        assert jobs.has_listeners(ONE)
        jobs.begin(ONE)
        jobs.publish(ONE, preview(1))
        jobs.publish(ONE, preview(2))
        jobs.end(ONE)
        assert list(read_all(early)) == [1, 2]
        assert list(read_all(another)) == [1, 2]
        assert not elsewhere.ended
        with jobs.listen(ONE) as late:
            assert late.ended
    assert not jobs.has_listeners(ONE)
    jobs.begin(ONE)
    with jobs.listen(ONE) as again:
        assert not again.ended


def test_a_listener_in_another_thread_is_woken() -> None:
    jobs = JobRegistry()
    heard: list[int] = []
    with jobs.listen(ONE) as stream:
        thread = Thread(target=lambda: heard.extend(read_all(stream)))
        thread.start()
        jobs.publish(ONE, preview(1))
        jobs.end(ONE)
        thread.join(timeout=30)
    assert heard == [1]


def test_a_slow_listener_misses_the_oldest_events_and_holds_nobody_up() -> None:
    jobs = JobRegistry()
    with jobs.listen(ONE) as slow:
        for step in range(1, 1001):
            jobs.publish(ONE, preview(step))
        jobs.end(ONE)
        steps = list(read_all(slow))
    assert len(steps) < 10
    assert steps == list(range(1001 - len(steps), 1001))


def test_a_job_can_be_canceled_before_it_comes() -> None:
    jobs = JobRegistry()
    with jobs.listen(ONE) as stream:
        jobs.cancel(ONE)
        assert stream.ended
    assert jobs.is_canceled(ONE)
    assert not jobs.is_canceled(OTHER)


def test_cancellations_are_forgotten_after_a_time_and_when_there_are_many() -> None:
    now = [0.0]
    jobs = JobRegistry(clock=lambda: now[0])
    jobs.cancel(ONE)
    now[0] = 599.0
    assert jobs.is_canceled(ONE)
    now[0] = 601.0
    assert not jobs.is_canceled(ONE)
    jobs.cancel(OTHER)
    for number in range(10_000):
        jobs.cancel(f"{number:032x}")
    assert not jobs.is_canceled(OTHER)
    assert jobs.is_canceled(f"{0:032x}")


def test_listeners_are_limited_and_their_places_freed() -> None:
    jobs = JobRegistry(max_streams=2)
    with ExitStack() as stack:
        stack.enter_context(jobs.listen(ONE))
        stack.enter_context(jobs.listen(OTHER))
        with pytest.raises(RequestError) as refusal, jobs.listen(ONE):
            pass
        assert refusal.value.status == 503
    with jobs.listen(ONE) as stream:
        assert not stream.ended
