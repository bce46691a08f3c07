"""Keys and limits through the whole application: what is let in, what is answered, what is logged.

The backend is real sockets, the application is called in-process.
"""

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from neural_photo_editor.api.key_file import ApiKey, changed_keys, create_key, digest_of, rotate_key
from serve.gateway.keys import KeyStore
from serve.gateway.logs import JsonFormatter
from serve.gateway.quotas import DailyUsage, Limits
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import FILES, SmallGateway, small_gateway, until

NOW = datetime.now(UTC)
TRIES = 1000

Headers = dict[str, str]


@dataclass(frozen=True)
class Keys:
    """Texts of keys in one file, and the store that read it."""

    good: str
    other: str
    revoked: str
    expired: str
    replaced: str
    path: Path

    @property
    def texts(self) -> list[str]:
        return [self.good, self.other, self.revoked, self.expired, self.replaced]


def _store(path: Path, *keys: ApiKey) -> None:
    with changed_keys(path) as stored:
        stored.extend(keys)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    good, good_text = create_key("good", now=NOW)
    other, other_text = create_key("other", now=NOW)
    revoked, revoked_text = create_key("revoked", now=NOW)
    expired, expired_text = create_key("expired", now=NOW, expires=NOW)
    rotated, replaced_text = create_key("rotated", now=NOW)
    rotated, _ = rotate_key(rotated, now=NOW, grace=timedelta(0))
    path = tmp_path / "keys.json"
    _store(path, good, other, revoked.model_copy(update={"revoked": NOW}), expired, rotated)
    return Keys(good_text, other_text, revoked_text, expired_text, replaced_text, path)


@pytest.fixture
def backend() -> Iterator[SmallBackend]:
    with SmallBackend() as backend:
        yield backend


@asynccontextmanager
async def gateway(path: Path, backend: SmallBackend, **options: Any) -> AsyncIterator[SmallGateway]:
    """Start a gateway with the keys of a file."""
    store = KeyStore(path)
    limits = Limits(store.find, DailyUsage(path.with_name("usage.sqlite")), retry_after_s=2.0)
    folder = path.parent
    async with small_gateway(folder, backend, keys=store, limits=limits, **options) as started:
        yield started


def _with(text: str) -> list[Headers]:
    return [{"Authorization": f"Bearer {text}"}, {"X-API-Key": text}]


def _bad_headers(keys: Keys, rng: random.Random) -> Headers:
    """Return the headers of a request that must not be let in."""
    good = keys.good
    prefix, key_id, secret = good.split("_")
    _, other_id, other_secret = keys.other.split("_")
    cut = rng.randrange(len(good))
    position = rng.randrange(len(secret))
    digit = rng.choice([one for one in "0123456789abcdef" if one != secret[position]])
    texts: list[str] = [
        f"{prefix}_{key_id}_{rng.randbytes(32).hex()}",
        f"{prefix}_{key_id}_{secret[:position]}{digit}{secret[position + 1 :]}",
        f"{prefix}_{rng.randbytes(6).hex()}_{secret}",
        f"{prefix}_{other_id}_{secret}",
        f"{prefix}_{key_id}_{other_secret}",
        f"{prefix}__{secret}",
        good[:cut],
        good[cut + 1 :],
        good + digit,
        good.upper(),
        good.title(),
        good[:-64] + good[-64:].upper(),
        keys.revoked,
        keys.expired,
        keys.replaced,
        digest_of(good),
        f"{prefix}_{key_id}_{digest_of(good)}",
        secret,
        "",
        "null",
    ]
    return rng.choice(
        [
            *(header for text in texts for header in _with(text)),
            {},
            {"Authorization": good},
            {"Authorization": f"Basic {good}"},
            {"Authorization": f"Bearer{good}"},
            {"Authorization": f"Bearer {good} {good}"},
            {"Authorization": f"Bearer {keys.expired}", "X-API-Key": good},
            {"Cookie": f"key={good}"},
            {"X-NPE-Key": good},
        ]
    )


async def _send(client: httpx.AsyncClient, headers: Headers) -> httpx.Response:
    return await client.post("/v1/segment", files={"photo": FILES["photo"]}, headers=headers)


async def _try_bad_keys(started: SmallGateway, keys: Keys) -> list[httpx.Response]:
    rng = random.Random(7)
    # Where a secret is changed at random the change could undo itself only by a chance of 2^-256.
    return [await _send(started.client, _bad_headers(keys, rng)) for _ in range(TRIES)]


def test_of_a_thousand_bad_keys_none_is_accepted(keys: Keys, backend: SmallBackend) -> None:
    async def run() -> None:
        async with gateway(keys.path, backend) as started:
            answers = await _try_bad_keys(started, keys)
            assert Counter(answer.status_code for answer in answers) == {401: TRIES}
            assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
            assert {answer.headers["content-type"] for answer in answers} == {
                "application/problem+json"
            }
            # Four things can be said, three of them only to who has the whole of a key.
            assert len({answer.content for answer in answers}) == 4
            assert not backend.received
            # The right key is let in, either way, so what was refused was the key.
            for headers in _with(keys.good):
                assert (await _send(started.client, headers)).status_code == 200
            assert len(backend.received) == 2

    asyncio.run(run())


def test_where_no_keys_are_asked_for_the_same_tries_are_accepted(
    keys: Keys, backend: SmallBackend, tmp_path: Path
) -> None:
    async def run() -> None:
        async with small_gateway(tmp_path, backend) as started:
            rng = random.Random(7)
            for _ in range(20):
                assert (await _send(started.client, _bad_headers(keys, rng))).status_code == 200

    asyncio.run(run())


def test_a_key_may_ask_for_what_it_allows_only(backend: SmallBackend, tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "keys.json"
        key, text = create_key("a", now=NOW, allows=("segment",))
        _store(path, key)
        async with gateway(path, backend) as started:
            headers = _with(text)[0]
            refused = await started.client.post("/v1/edit", files=FILES, headers=headers)
            assert refused.status_code == 403
            assert "does not allow edit" in refused.json()["detail"]
            # Before the body is read: that it is no form is not noticed.
            form = {**headers, "Content-Type": "multipart/form-data; boundary=x"}
            assert (await started.client.post("/v1/edit", headers=form)).status_code == 403
            assert (await started.client.post("/v1/segment", headers=form)).status_code == 400
            assert not backend.received
            assert (await _send(started.client, headers)).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("limits", "retry_after"),
    [
        ({"requests_per_minute": 1, "burst": 2}, lambda seconds: 58 <= seconds <= 60),
        ({"requests_per_day": 2}, lambda seconds: 0 < seconds <= 86400),
    ],
)
def test_beyond_its_limits_a_key_is_told_when_to_come_again(
    backend: SmallBackend,
    tmp_path: Path,
    limits: dict[str, int],
    retry_after: Callable[[int], bool],
) -> None:
    async def run() -> None:
        path = tmp_path / "keys.json"
        key, text = create_key("a", now=NOW, **limits)
        other, other_text = create_key("b", now=NOW, **limits)
        _store(path, key, other)
        async with gateway(path, backend) as started:
            headers = _with(text)[0]
            answers = [await _send(started.client, headers) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]
            assert retry_after(int(answers[-1].headers["retry-after"]))
            assert answers[-1].headers["content-type"] == "application/problem+json"
            assert (await _send(started.client, _with(other_text)[0])).status_code == 200

    asyncio.run(run())


def test_one_key_cannot_take_every_place(backend: SmallBackend, tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "keys.json"
        key, text = create_key("a", now=NOW, max_in_flight=1)
        other, other_text = create_key("b", now=NOW, max_in_flight=1)
        _store(path, key, other)
        backend.plan.append("hold")
        async with gateway(path, backend) as started:
            held = asyncio.create_task(_send(started.client, _with(text)[0]))
            await asyncio.to_thread(backend.arrived.wait, 10)
            refused = await _send(started.client, _with(text)[0])
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
            assert (await _send(started.client, _with(other_text)[0])).status_code == 200
            backend.release.set()
            assert (await held).status_code == 200
            assert (await _send(started.client, _with(text)[0])).status_code == 200

    asyncio.run(run())


def test_uploads_under_way_count_as_in_flight(backend: SmallBackend, tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "keys.json"
        key, text = create_key("a", now=NOW, max_in_flight=1)
        _store(path, key)
        reading, go_on = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            reading.set()
            yield b"{"
            await go_on.wait()

        async with gateway(path, backend) as started:
            headers = {**_with(text)[0], "Content-Type": "application/json"}
            post = started.client.post
            slow = asyncio.create_task(post("/v1/segment", headers=headers, content=body()))
            await reading.wait()
            assert (await _send(started.client, _with(text)[0])).status_code == 429
            go_on.set()
            assert (await slow).status_code == 400
            assert (await _send(started.client, _with(text)[0])).status_code == 200

    asyncio.run(run())


def test_what_a_client_left_counts_until_the_worker_let_go_of_it(
    backend: SmallBackend, tmp_path: Path
) -> None:
    async def run() -> None:
        path = tmp_path / "keys.json"
        key, text = create_key("a", now=NOW, max_in_flight=1)
        _store(path, key)
        backend.plan.append("hold")
        backend.forgets = 1  # The worker does not hear of it at first.
        async with gateway(path, backend) as started:
            left = asyncio.create_task(_send(started.client, _with(text)[0]))
            await until(backend.arrived.is_set)
            left.cancel()
            await until(backend.was_canceled.is_set)
            assert (await _send(started.client, _with(text)[0])).status_code == 429
            backend.release.set()
            await until(lambda: not started.service._background)
            assert (await _send(started.client, _with(text)[0])).status_code == 200

    asyncio.run(run())


def test_a_key_revoked_while_the_gateway_runs_is_out_at_once(
    keys: Keys, backend: SmallBackend
) -> None:
    async def run() -> None:
        async with gateway(keys.path, backend) as started:
            headers = _with(keys.good)[0]
            assert (await _send(started.client, headers)).status_code == 200
            with changed_keys(keys.path) as stored:
                stored[0] = stored[0].model_copy(update={"revoked": NOW})
            assert (await _send(started.client, headers)).status_code == 401

    asyncio.run(run())


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return all that was logged: messages, their arguments, extra fields, as JSON and raw."""
    formatter = JsonFormatter()
    lines = [formatter.format(record) + repr(vars(record)) for record in caplog.records]
    return "\n".join([*lines, caplog.text])


def test_no_secret_is_in_the_logs_or_in_the_file(
    keys: Keys, backend: SmallBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with gateway(keys.path, backend) as started:
            for text in [*keys.texts, keys.good[:-1] + "x"]:
                for headers in _with(text):
                    await _send(started.client, headers)
            # Somebody puts a key where a name should be.
            keys.path.write_text(written.replace('"id"', f'"{keys.other}": 1, "id"', 1))
            await _send(started.client, _with(keys.good)[0])
            # A backend that fails is logged with all that is known of the request.
            backend.plan.extend(["worker_died"] * 4)
            await _send(started.client, _with(keys.good)[0])

    written = keys.path.read_text()
    with caplog.at_level(logging.DEBUG):
        asyncio.run(run())
    logged = _logged(caplog)
    assert "the file of keys is broken" in logged
    key_id = keys.good.split("_")[1]
    assert key_id in logged  # requests are logged, under the part of a key that is no secret
    assert key_id in written
    for text in keys.texts:
        secret = text.split("_")[2]
        for part in (secret[i : i + 16] for i in range(0, len(secret), 16)):
            assert part not in written
            assert part not in logged


def test_the_request_log_names_the_key(
    keys: Keys, backend: SmallBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with gateway(keys.path, backend) as started:
            await _send(started.client, _with(keys.good)[0])

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    (line,) = [line for line in lines if line.get("operation") == "segment"]
    assert line["key_id"] == keys.good.split("_")[1]
