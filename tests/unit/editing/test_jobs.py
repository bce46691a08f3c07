"""Stages of several jobs: at the same time where no network is called, each with its own fate."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import SegmentRequest
from neural_photo_editor.editing.jobs import Job, run_concurrent_stage


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def make_jobs(count: int) -> list[Job]:
    return [Job(SegmentRequest(photo=b"photo"), position) for position in range(count)]


def test_jobs_are_worked_on_at_the_same_time_and_without_gradients(
    threads: ThreadPoolExecutor,
) -> None:
    both = Barrier(2)
    modes = []

    def meet(job: Job) -> None:
        both.wait(timeout=60)  # Broken, and so an error of the job, were they alone.
        modes.append(torch.is_inference_mode_enabled())

    jobs = make_jobs(4)
    run_concurrent_stage("encode", meet, jobs, threads=threads)
    assert [job.error for job in jobs] == [None] * 4
    assert modes == [True] * 4
    assert all(job.timings_ms["encode"] >= 0 and job.networks_ms == 0 for job in jobs)


def test_what_goes_wrong_stays_with_its_job(threads: ThreadPoolExecutor) -> None:
    def fail(job: Job) -> None:
        if job.position == 1:
            raise RequestError(422, "no photo", field="photo", remedy="send one")
        if job.position == 2:
            raise KeyError("secret")

    jobs = make_jobs(4)
    run_concurrent_stage("decode", fail, jobs, threads=threads)
    assert [job.error and job.error.status for job in jobs] == [None, 422, 500, None]
    assert "secret" not in str(jobs[2].error)


@pytest.mark.parametrize("count", [1, 3])
def test_a_lost_device_is_no_job_s_error(threads: ThreadPoolExecutor, count: int) -> None:
    def lose(job: Job) -> None:
        raise torch.AcceleratorError("the device is lost")

    with pytest.raises(torch.AcceleratorError):
        run_concurrent_stage("encode", lose, make_jobs(count), threads=threads)
