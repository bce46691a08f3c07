"""One request on its way through the stages of the pipeline, and what happens when one fails."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from neural_photo_editor.api.codec import DecodedPhoto, ImageFormat
from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.api.schema import Request, Result
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.editing.face_finding import Face
from neural_photo_editor.editing.preparation import PreparedEdit
from neural_photo_editor.editing.segmentation import LabelMap
from neural_photo_editor.imaging.compositing import Photo

logger = get_logger(__name__)


@dataclass
class Job:
    """What is known of one request so far; a job with an error is left out of later stages.

    Attributes:
        position: of the request among those that came together.
        logits: what the segmenter sees in the whole photo's square, float32, (1, 11, R, R).
        faces: those in the photo, the largest first.
        labels: a segment request's label map of the photo, uint8, (H, W).
        image_format: file type of an edit's result.
        squares: an edit's squares at model resolution, float, (1, 3, R, R), one per variation.
        enlarged: the same after the upscaler, float, (1, 3, S, S); empty where not needed.
        image: the upscaled photo, uint8, (H, W, 3).
    """

    request: Request
    position: int = 0
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

    @property
    def decoded(self) -> DecodedPhoto:
        assert self.photo is not None
        return self.photo

    @property
    def prepared(self) -> PreparedEdit:
        assert self.edit is not None
        return self.edit


def run_stage(name: str, stage: Callable[[Job], None], jobs: Sequence[Job]) -> None:
    """Run a stage on each job by itself."""
    for job in jobs:
        run_batched_stage(name, lambda batch: stage(batch[0]), [job])


def run_batched_stage(
    name: str, stage: Callable[[Sequence[Job]], None], jobs: Sequence[Job]
) -> None:
    """Run a stage on the jobs that have no error yet; what goes wrong becomes their error."""
    jobs = [job for job in jobs if job.error is None]
    if not jobs:
        return
    start = time.perf_counter()
    error: RequestError | None = None
    try:
        stage(jobs)
    except RequestError as refusal:
        error = refusal
    except Exception:
        # The sender gets no internals; the log gets everything.
        logger.exception("stage %s failed for %d request(s)", name, len(jobs))
        error = internal_error()
    elapsed_ms = round((time.perf_counter() - start) * 1000.0, 3)
    for job in jobs:
        # One that was canceled on the way has its own.
        job.error = job.error or error
        job.timings_ms[name] = elapsed_ms


def answer(job: Job) -> Result | RequestError:
    """Return the job's error, or its result with the timings filled in."""
    if job.error is not None:
        return job.error
    assert job.result is not None
    metadata = job.result.metadata.model_copy(update={"timings_ms": job.timings_ms})
    return job.result.model_copy(update={"metadata": metadata})
