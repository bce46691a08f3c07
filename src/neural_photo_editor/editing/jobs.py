"""One request on its way through the stages of the pipeline, and what happens when one fails."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neural_photo_editor.api.codec import DecodedPhoto, ImageFormat
from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.api.schema import Request, Result
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.editing.face_finding import Face
from neural_photo_editor.editing.network_time import NetworkTime
from neural_photo_editor.editing.preparation import PreparedEdit
from neural_photo_editor.editing.segmentation import LabelMap
from neural_photo_editor.imaging.compositing import Photo

logger = get_logger(__name__)


@dataclass
class Job:
    """What is known of one request so far; a job with an error is left out of later stages.

    Attributes:
        position: of the request among those that came together.
        check: raises RequestError when the request is to be given up.
        logits: what the segmenter sees in the whole photo's square, float32, (1, 11, R, R).
        faces: those in the photo, the largest first.
        labels: a segment request's label map of the photo, uint8, (H, W).
        image_format: file type of an edit's result.
        squares: an edit's squares at model resolution, float, (1, 3, R, R), one per variation.
        enlarged: the same after the upscaler, float, (1, 3, S, S); empty where not needed.
        image: the upscaled photo, uint8, (H, W, 3).
        timings_ms: what each stage took, of the whole batch where it is shared.
        networks_ms: the networks' part of it.
    """

    request: Request
    position: int = 0
    check: Callable[[], None] = lambda: None
    photo: DecodedPhoto | None = None
    logits: Tensor | None = None
    faces: Sequence[Face] = ()
    labels: LabelMap | None = None
    image_format: ImageFormat = "png"
    edit: PreparedEdit | None = None
    squares: Sequence[Tensor] = ()
    enlarged: Sequence[Tensor] = ()
    image: Photo | None = None
    result: Result | None = None
    error: RequestError | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    networks_ms: float = 0.0

    @property
    def decoded(self) -> DecodedPhoto:
        assert self.photo is not None
        return self.photo

    @property
    def prepared(self) -> PreparedEdit:
        assert self.edit is not None
        return self.edit


def run_stage(
    name: str, stage: Callable[[Job], None], jobs: Sequence[Job], *, networks: NetworkTime
) -> None:
    """Run a stage on each job by itself."""
    for job in jobs:
        run_batched_stage(name, lambda batch: stage(batch[0]), [job], networks=networks)


def run_concurrent_stage(
    name: str, stage: Callable[[Job], None], jobs: Sequence[Job], *, threads: Executor
) -> None:
    """Run a stage without networks on each job by itself, several at a time."""

    def run(job: Job) -> None:
        with torch.inference_mode():  # which is set for each thread
            run_batched_stage(name, lambda batch: stage(batch[0]), [job], networks=None)

    if len(jobs) == 1:
        run(jobs[0])
        return
    for _ in threads.map(run, jobs):
        pass


def run_batched_stage(
    name: str,
    stage: Callable[[Sequence[Job]], None],
    jobs: Sequence[Job],
    *,
    networks: NetworkTime | None,
) -> None:
    """Run a stage on the jobs that are still wanted and have no error yet.

    What goes wrong becomes the jobs' error. Without ``networks`` the stage calls none.

    Raises:
        torch.AcceleratorError: the device is lost (see :func:`is_device_lost`).
    """
    jobs = [job for job in jobs if job.error is None and still_wanted(job)]
    if not jobs:
        return
    start, network_start = time.perf_counter(), networks.in_this_thread() if networks else 0.0
    error: RequestError | None = None
    try:
        stage(jobs)
    except RequestError as refusal:
        error = refusal
    except Exception as failure:
        if is_device_lost(failure):
            raise
        # The sender gets no internals; the log gets everything.
        logger.exception("stage %s failed for %d request(s)", name, len(jobs))
        error = internal_error()
    network_ms = (networks.in_this_thread() - network_start) * 1000.0 if networks else 0.0
    elapsed_ms = round((time.perf_counter() - start) * 1000.0, 3)
    for job in jobs:
        # One that was given up on the way has its own.
        job.error = job.error or error
        job.timings_ms[name] = elapsed_ms
        job.networks_ms += network_ms


def is_device_lost(error: Exception) -> bool:
    """Tell whether no work on the accelerator can succeed any more in this process."""
    return isinstance(error, torch.AcceleratorError) and "out of memory" not in str(error)


def still_wanted(job: Job) -> bool:
    """Tell whether a job is to go on; if not, it has an error from now on."""
    try:
        job.check()
    except RequestError as refusal:
        job.error = refusal
    except Exception:
        logger.exception("request %d could not be checked", job.position)
        job.error = internal_error()
    return job.error is None


def answer(job: Job) -> Result | RequestError:
    """Return the job's error, or its result with the timings filled in."""
    if job.error is not None:
        return job.error
    assert job.result is not None
    timings_ms = {**job.timings_ms, "networks": round(job.networks_ms, 3)}
    metadata = job.result.metadata.model_copy(update={"timings_ms": timings_ms})
    return job.result.model_copy(update={"metadata": metadata})
