"""The service over backends that fail to order: retries, refusals, deadlines, cancellation."""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from neural_photo_editor.api.envelope import Reply
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest, SegmentRequest
from serve.gateway.access import Principal
from serve.gateway.service import ANONYMOUS, OnProgress
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import (
    MASK,
    PHOTO,
    SmallGateway,
    small_gateway,
    until,
    write_routes,
)

EDIT = EditRequest(photo=PHOTO, mask=MASK)


async def submit(
    gateway: SmallGateway, on_progress: OnProgress | None = None, **fields: Any
) -> Reply:
    return await gateway.service.submit(
        EDIT.model_copy(update=fields),
        principal=ANONYMOUS,
        request_id=uuid.uuid4().hex,
        on_progress=on_progress,
    )


async def refusal(gateway: SmallGateway, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as refused:
        await submit(gateway, **fields)
    return refused.value


def test_what_the_worker_is_told_and_what_comes_back(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            async with small_gateway(tmp_path, backend, request_timeout_s=60.0) as gateway:
                before = time.time()
                reply = await submit(gateway, seed=5, strength=0.25, steps=3)
            assert reply.body == PHOTO
            assert reply.headers["X-NPE-Bundle"] == backend.digest
            assert reply.headers["X-NPE-Channel"] == "production"
            assert backend.received == [
                EDIT.model_copy(update={"seed": 5, "strength": 0.25, "steps": 3})
            ]
            headers = backend.headers[0]
            assert len(headers["x-npe-request-id"]) == 32
            assert before <= float(headers["x-npe-sent"]) <= time.time()
            assert before + 60 <= float(headers["x-npe-deadline"]) <= time.time() + 60

    asyncio.run(run())


@pytest.mark.parametrize("failure", ["worker_died", "handler_crashed", "reset"])
def test_a_request_whose_worker_died_is_sent_again_unchanged(tmp_path: Path, failure: str) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.extend([failure, failure])
            async with small_gateway(tmp_path, backend) as gateway:
                reply = await submit(gateway)
                assert gateway.count("retries", reason="worker_lost") == 2
            assert reply.status == 200
            first, *others = backend.received
            assert isinstance(first, EditRequest)
            # The seed was drawn once: the answer is what it would have been.
            assert first.seed is not None
            assert others == [first, first]
            assert len({headers["x-npe-request-id"] for headers in backend.headers}) == 1

    asyncio.run(run())


def test_a_request_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.extend(["worker_died"] * 9)
            async with small_gateway(tmp_path, backend, max_attempts=3) as gateway:
                assert (await refusal(gateway)).status == 500
                assert len(backend.received) == 3
                assert gateway.pool.states()[0].in_flight == 0

    asyncio.run(run())


def test_a_backend_without_the_model_is_not_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.append("no_model")
            async with small_gateway(tmp_path, backend, backend_poll_s=60.0) as gateway:
                assert (await refusal(gateway)).status == 500
                assert len(backend.received) == 1
                assert gateway.pool.states()[0].ready
            assert "check its model's name" in caplog.text

    asyncio.run(run())


def test_another_backend_answers_for_one_that_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as staying:
            with SmallBackend() as leaving:
                async with small_gateway(
                    tmp_path, leaving, staying, backend_poll_s=60.0
                ) as gateway:
                    leaving.__exit__()
                    replies = await asyncio.gather(*(submit(gateway) for _ in range(4)))
                    assert {reply.status for reply in replies} == {200}
                    ready = {state.url: state.ready for state in gateway.pool.states()}
                    assert ready == {leaving.url: False, staying.url: True}
            assert len(staying.received) == 4

    asyncio.run(run())


def test_requests_wait_for_a_worker_that_comes_back(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            async with small_gateway(tmp_path, backend) as gateway:
                backend.ready = False
                await until(lambda: not gateway.pool.states()[0].ready)
                waiting = asyncio.create_task(submit(gateway))
                await until(lambda: gateway.pool.states()[0].in_flight == 1)
                assert not backend.received
                backend.ready = True
                assert (await waiting).status == 200

    asyncio.run(run())


def test_requests_do_not_wait_for_a_worker_that_stays_away(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            async with small_gateway(tmp_path, backend, recovery_s=0.05) as gateway:
                backend.ready = False
                await until(lambda: not gateway.pool.states()[0].ready)
                error = await refusal(gateway)
            assert (error.status, error.retry_after_s) == (503, 2.0)
            assert "no backend" in error.detail
            assert gateway.count("refusals", reason="no_backend") >= 1

    asyncio.run(run())


def test_there_is_a_place_for_so_many_and_no_more(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend(max_batch=2) as backend:
            backend.plan.extend(["hold"] * 4)
            async with small_gateway(tmp_path, backend, batches_in_flight=2) as gateway:
                held = [asyncio.create_task(submit(gateway)) for _ in range(4)]
                await until(lambda: gateway.pool.states()[0].in_flight == 4)
                error = await refusal(gateway)
                assert (error.status, error.retry_after_s) == (503, 2.0)
                with pytest.raises(RequestError, match="no room"):
                    gateway.service.admit(ANONYMOUS, "edit")
                backend.release.set()
                assert {reply.status for reply in await asyncio.gather(*held)} == {200}
                gateway.service.admit(ANONYMOUS, "edit")
            assert len(backend.received) == 4

    asyncio.run(run())


def test_all_backends_together_have_a_limit(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as first, SmallBackend() as second:
            first.plan.append("hold")
            second.plan.append("hold")
            async with small_gateway(tmp_path, first, second, max_in_flight=2) as gateway:
                held = [asyncio.create_task(submit(gateway)) for _ in range(2)]
                await until(lambda: [s.in_flight for s in gateway.pool.states()] == [1, 1])
                assert (await refusal(gateway)).status == 503
                first.release.set()
                second.release.set()
                await asyncio.gather(*held)

    asyncio.run(run())


def test_a_full_queue_of_torchserve_is_no_room(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.append("queue_full")
            async with small_gateway(tmp_path, backend) as gateway:
                error = await refusal(gateway)
                assert (error.status, error.retry_after_s) == (503, 2.0)
                assert gateway.count("refusals", reason="queue_full") == 1
            assert len(backend.received) == 1

    asyncio.run(run())


def test_what_the_worker_refuses_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.append("refuse")
            async with small_gateway(tmp_path, backend) as gateway:
                error = await refusal(gateway)
            assert (error.status, error.detail) == (422, "not so")
            assert (error.field, error.remedy) == ("mask", "mend")

    asyncio.run(run())


def test_a_request_past_its_deadline_is_given_up(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.append("hold")
            async with small_gateway(tmp_path, backend, request_timeout_s=1.0) as gateway:
                assert (await refusal(gateway)).status == 504
                await until(backend.was_canceled.is_set)
                assert backend.canceled == [backend.headers[0]["x-npe-request-id"]]
                assert gateway.pool.states()[0].in_flight == 0

    asyncio.run(run())


def test_canceling_the_task_cancels_the_job_and_keeps_its_place_until_then(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.append("hold")
            async with small_gateway(tmp_path, backend) as gateway:
                task = asyncio.create_task(submit(gateway))
                await until(backend.arrived.is_set)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert gateway.pool.states()[0].in_flight == 1
                await until(lambda: gateway.pool.states()[0].in_flight == 0)
                assert gateway.count("canceled") == 1
            assert backend.canceled == [backend.headers[0]["x-npe-request-id"]]
            assert len(backend.received) == 1

    asyncio.run(run())


def test_a_worker_that_starts_again_is_told_again_what_was_canceled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.gateway.service._CANCEL_AGAIN_S", 0.01)

    async def run() -> None:
        with SmallBackend() as backend:
            backend.plan.append("hold")
            backend.forgets = 2
            async with small_gateway(tmp_path, backend) as gateway:
                task = asyncio.create_task(submit(gateway))
                await until(backend.arrived.is_set)
                task.cancel()
                await until(lambda: gateway.pool.states()[0].in_flight == 0)
            assert backend.canceled

    asyncio.run(run())


def test_a_backend_is_closed_when_its_cancellations_are_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        with SmallBackend() as leaving:
            leaving.plan.append("hold")
            leaving.holds_deletions = True
            async with small_gateway(tmp_path, leaving) as gateway:
                task = asyncio.create_task(submit(gateway))
                await until(leaving.arrived.is_set)
                write_routes(gateway.routes_file, [])
                task.cancel()
                # The worker gave the job up and has not answered the deletion yet.
                await until(lambda: not gateway.pool.states())
                leaving.release.set()
            assert leaving.canceled
        assert "could not be canceled" not in caplog.text

    asyncio.run(run())


def test_a_canceled_job_is_not_sent_again(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as backend:
            async with small_gateway(tmp_path, backend) as gateway:
                backend.ready = False
                await until(lambda: not gateway.pool.states()[0].ready)
                task = asyncio.create_task(submit(gateway))
                await until(lambda: gateway.pool.states()[0].in_flight == 1)
                task.cancel()
                await until(lambda: gateway.pool.states()[0].in_flight == 0)
                backend.ready = True
            assert backend.received == []

    asyncio.run(run())


def test_progress_is_relayed_and_its_failure_fails_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        seen: list[dict[str, Any]] = []
        told = asyncio.Event()

        async def note(event: dict[str, Any]) -> None:
            seen.append(event)
            told.set()

        async def fail(_: dict[str, Any]) -> None:
            told.set()
            raise ValueError("the listener is broken")

        with SmallBackend() as backend:
            backend.events = [{"step": 1}, {"step": 2}]
            async with small_gateway(tmp_path, backend) as gateway:
                for listener in (note, fail):
                    told.clear()
                    backend.release.clear()
                    backend.plan.append("hold")
                    task = asyncio.create_task(submit(gateway, listener))
                    await told.wait()
                    await until(lambda: len(seen) == 2)
                    backend.release.set()
                    assert (await task).status == 200
            assert seen == [{"step": 1}, {"step": 2}]

    asyncio.run(run())


def test_the_canary_gets_its_share(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend("a" * 64) as production, SmallBackend("b" * 64) as canary:
            async with small_gateway(tmp_path, production, canary=[canary], weight=0.3) as gateway:
                replies = [await submit(gateway) for _ in range(200)]
                counts = Counter(
                    (reply.headers["X-NPE-Channel"], reply.headers["X-NPE-Bundle"])
                    for reply in replies
                )
            assert set(counts) == {("production", "a" * 64), ("canary", "b" * 64)}
            # Within five standard deviations of 60.
            assert 28 <= counts["canary", "b" * 64] <= 92

    asyncio.run(run())


def test_production_answers_for_a_canary_that_is_not_ready(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as production, SmallBackend() as canary:
            canary.ready = False
            async with small_gateway(tmp_path, production, canary=[canary], weight=1.0) as gateway:
                assert (await submit(gateway)).headers["X-NPE-Channel"] == "production"

    asyncio.run(run())


def test_the_backend_with_fewer_requests_is_chosen(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend() as busy, SmallBackend() as idle:
            busy.plan.append("hold")
            async with small_gateway(tmp_path, busy, idle) as gateway:
                held = asyncio.create_task(submit(gateway))
                await until(busy.arrived.is_set)
                for _ in range(3):
                    await submit(gateway)
                assert (len(busy.received), len(idle.received)) == (1, 3)
                busy.release.set()
                await held

    asyncio.run(run())


def test_broken_routes_change_nothing_and_mended_ones_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        with SmallBackend() as old, SmallBackend() as new:
            async with small_gateway(tmp_path, old) as gateway:
                wrong = gateway.routes_file.read_text().replace(old.url, "http://host:abc")
                gateway.routes_file.write_text(wrong)
                await until(lambda: "the routes file is broken" in caplog.text)
                assert (await submit(gateway)).status == 200
                write_routes(gateway.routes_file, [new])
                await until(lambda: [s.url for s in gateway.pool.states()] == [new.url])

    asyncio.run(run())


def test_a_backend_that_leaves_the_routes_finishes_what_it_has(tmp_path: Path) -> None:
    async def run() -> None:
        with SmallBackend("a" * 64) as old, SmallBackend("b" * 64) as new:
            old.plan.append("hold")
            async with small_gateway(tmp_path, old) as gateway:
                held = asyncio.create_task(submit(gateway))
                await until(old.arrived.is_set)
                write_routes(gateway.routes_file, [new])
                await until(
                    lambda: any(s.ready and s.url == new.url for s in gateway.pool.states())
                )
                assert (await submit(gateway)).headers["X-NPE-Bundle"] == "b" * 64
                old.release.set()
                assert (await held).headers["X-NPE-Bundle"] == "a" * 64
                assert [state.url for state in gateway.pool.states()] == [new.url]

    asyncio.run(run())


def test_a_key_may_do_what_it_allows(tmp_path: Path) -> None:
    async def run() -> None:
        may_segment = Principal("k1", frozenset({"segment"}))
        with SmallBackend() as backend:
            async with small_gateway(tmp_path, backend) as gateway:
                with pytest.raises(RequestError, match="does not allow edit"):
                    await gateway.service.submit(
                        EDIT, principal=may_segment, request_id=uuid.uuid4().hex
                    )
                reply = await gateway.service.submit(
                    SegmentRequest(photo=PHOTO), principal=may_segment, request_id=uuid.uuid4().hex
                )
                assert reply.status == 200

    asyncio.run(run())
