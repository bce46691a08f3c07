"""The edit pipeline as the outside sees it: requests with deadlines that can be canceled, whose
progress can be watched, and of which metrics are kept."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neural_photo_editor.api.envelope import operation_of
from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.api.schema import Request, Result
from neural_photo_editor.api.signing import public_key_info
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.editing.jobs import is_device_lost
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.progress import EditProgress, canceled_error
from neural_photo_editor.serving.control_server import ControlServer
from neural_photo_editor.serving.job_registry import JobRegistry
from neural_photo_editor.serving.options import ControlAddress
from neural_photo_editor.serving.previews import Preview
from neural_photo_editor.serving.spans import Spans
from neural_photo_editor.serving.ticket import Ticket, deadline_error
from neural_photo_editor.serving.worker_metrics import WorkerMetrics

PREVIEW_INTERVAL_S = 0.125
"""A job shows a step at most this often."""

DEVICE_LOST = 70
"""The process's exit status where the accelerator is lost."""

_SAVED_BY_STATUS = {409: "canceled", 504: "deadline"}

logger = get_logger(__name__)


class EditWorker:
    """Answers batches of requests, each with its ticket; for one thread.

    Args:
        pipeline: does the work.
        jobs: shared with the control server.
        model_name: for the metrics.
        spans: records a trace's span of each request, where traces are wanted.
        clock: Unix time in seconds, which deadlines refer to.
    """

    def __init__(
        self,
        pipeline: EditPipeline,
        *,
        jobs: JobRegistry | None = None,
        model_name: str = "",
        spans: Spans | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pipeline = pipeline
        self.jobs = jobs or JobRegistry()
        model = {"bundle_digest": pipeline.bundle_digest, "model_name": model_name}
        self.metrics = WorkerMetrics(model, device=pipeline.device)
        self._spans = spans
        self._clock = clock

    def serve_control(self, address: ControlAddress, *, max_batch: int) -> ControlServer:
        """Answer on the control address from now on, in a thread of its own.

        Args:
            address: where.
            max_batch: the most requests that come together.

        Raises:
            OSError: the address cannot be used.
        """
        info = {
            "bundle_digest": self.pipeline.bundle_digest,
            "resolution": self.pipeline.resolution,
            "max_batch": max_batch,
            "licenses": list(self.pipeline.licenses),
            "defaults": self.pipeline.defaults.model_dump(mode="json"),
            "receipt_key": public_key_info(),
        }
        return ControlServer(
            self.jobs,
            info=info,
            metrics=self.metrics.render,
            host=address.host,
            port=address.port,
            token=address.token,
        ).start()

    def answer(
        self, requests: Sequence[Request | RequestError], tickets: Sequence[Ticket]
    ) -> list[Result | RequestError]:
        """Answer the good requests together, or if that fails, each alone.

        A request that is canceled, or whose deadline passes, is given up at its next step and
        answered with a RequestError of status 409 or 504. Where the accelerator is lost the
        process ends: whoever started it starts another, which has a sound one.

        Args:
            requests: each a request, or the reason why it is none, which is its answer.
            tickets: of each request.
        """
        now = self._clock()
        self.metrics.batch_size.observe(len(requests))
        good = [
            _Job(request, ticket, max(now - ticket.sent, 0.0) if ticket.sent else None)
            for request, ticket in zip(requests, tickets, strict=True)
            if not isinstance(request, RequestError)
        ]
        with self.jobs.working_on(len(good)):
            answers = iter(self._work(good))
        return [
            request if isinstance(request, RequestError) else next(answers) for request in requests
        ]

    def count(self, request: Request | RequestError, status: int) -> None:
        """Count a request as answered with a status."""
        operation = "unknown" if isinstance(request, RequestError) else operation_of(request)
        self.metrics.requests.labels(operation, str(int(status))).inc()

    def _work(self, batch: "Sequence[_Job]") -> list[Result | RequestError]:
        for job in batch:
            job.planned_steps = self.pipeline.planned_steps(job.request)
            if job.waited_s is not None:
                self.metrics.queue_wait_seconds.observe(job.waited_s)
            if job.ticket.job_id is not None:
                self.jobs.begin(job.ticket.job_id)
        start, before = time.perf_counter(), self.pipeline.network_time.seconds()
        try:
            answers = self._run(batch)
        except Exception:
            logger.exception("a batch of %d failed; trying one by one", len(batch))
            answers = [self._run_alone(job) for job in batch]
        finally:
            for job in batch:
                if job.ticket.job_id is not None:
                    self.jobs.end(job.ticket.job_id)
        for network, seconds in self.pipeline.network_time.seconds().items():
            self.metrics.network_seconds.labels(network).inc(seconds - before[network])
        if self._spans is not None:
            for job, answer in zip(batch, answers, strict=True):
                _record_span(self._spans, job, answer, seconds=time.perf_counter() - start)
        return [self._record(job, answer) for job, answer in zip(batch, answers, strict=True)]

    def _run_alone(self, job: "_Job") -> Result | RequestError:
        try:
            return self._run([job])[0]
        except Exception:
            logger.exception("a request failed")
            return internal_error()

    def _run(self, batch: "Sequence[_Job]") -> list[Result | RequestError]:
        try:
            return self.pipeline.run(
                [job.request for job in batch],
                lambda position, progress: self._tell(batch[position], progress),
                check=lambda position: self._check(batch[position].ticket),
            )
        except Exception as error:
            if is_device_lost(error):
                logger.exception("the accelerator is lost; this process ends")
                os._exit(DEVICE_LOST)  # What else would run at the end could wait for the device.
            raise

    def _check(self, ticket: Ticket) -> None:
        if ticket.job_id is not None and self.jobs.is_canceled(ticket.job_id):
            raise canceled_error()
        if ticket.deadline is not None and self._clock() >= ticket.deadline:
            raise deadline_error()

    def _tell(self, job: "_Job", progress: EditProgress) -> None:
        job.steps = progress.step * len(progress.x_0)
        now = time.monotonic()
        due = now >= job.shown_at + PREVIEW_INTERVAL_S or progress.step == progress.total_steps
        if due and job.ticket.job_id is not None and self.jobs.has_listeners(job.ticket.job_id):
            job.shown_at = now
            self.jobs.publish(job.ticket.job_id, _preview(progress))

    def _record(self, job: "_Job", answer: Result | RequestError) -> Result | RequestError:
        self.metrics.steps_computed.inc(job.steps)
        if isinstance(answer, RequestError):
            reason = _SAVED_BY_STATUS.get(int(answer.status))
            if reason is not None:
                self.metrics.steps_saved.labels(reason).inc(job.planned_steps - job.steps)
            return answer
        timings_ms = dict(answer.metadata.timings_ms)
        for stage in timings_ms.keys() - {"networks"}:
            self.metrics.stage_seconds.labels(stage).observe(timings_ms[stage] / 1000.0)
        if job.waited_s is None:
            return answer
        timings_ms["queue"] = round(job.waited_s * 1000.0, 3)
        metadata = answer.metadata.model_copy(update={"timings_ms": timings_ms})
        return answer.model_copy(update={"metadata": metadata})


@dataclass
class _Job:
    """One request while it is worked on.

    Attributes:
        waited_s: seconds since it was sent; None where nobody said when that was.
        planned_steps, steps: of the denoiser, in all and so far.
        shown_at: when a step was last shown to listeners, in seconds of the monotonic clock.
    """

    request: Request
    ticket: Ticket
    waited_s: float | None
    planned_steps: int = 0
    steps: int = 0
    shown_at: float = float("-inf")


def _record_span(spans: Spans, job: _Job, answer: Result | RequestError, *, seconds: float) -> None:
    status, timings_ms = 200, {}
    if isinstance(answer, RequestError):
        status = int(answer.status)
    else:
        timings_ms = answer.metadata.timings_ms
    spans.record(
        operation_of(job.request),
        traceparent=job.ticket.traceparent,
        seconds=seconds,
        status=status,
        attributes={
            "npe.request_id": job.ticket.job_id or "",
            "npe.steps": job.steps,
            "npe.waited_ms": round((job.waited_s or 0.0) * 1000.0, 3),
            **{f"npe.{stage}_ms": value for stage, value in timings_ms.items()},
        },
    )


def _preview(progress: EditProgress) -> Preview:
    crop = progress.crop
    return Preview(
        step=progress.step,
        total_steps=progress.total_steps,
        crop=(crop.left, crop.top, crop.left + crop.side, crop.top + crop.side),
        width=crop.photo_width,
        height=crop.photo_height,
        square=progress.preview(),
    )
