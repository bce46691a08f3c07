"""One host, several workers: every address is a backend with its own requests and control."""

import asyncio
import json
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from serve.gateway.addresses import AddressBook, addresses_of
from serve.gateway.routes import BackendRoute, Canary, Routes, RoutesFile
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import SmallGateway, small_gateway, until

WORKERS = BackendRoute(
    url="http://workers:8085", control_url="http://workers:8086", each_address=True
)


class Names:
    """What a name server says; None: it does not answer."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: tuple[str, ...] | None = addresses

    async def __call__(self, host: str) -> Sequence[str]:
        if self.addresses is None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self.addresses


def test_a_route_becomes_one_for_each_address() -> None:
    plain = BackendRoute(url="http://one:1", control_url="http://one:2")
    routes = Routes(production=(plain, WORKERS), canary=Canary(weight=0.2, backends=(WORKERS,)))
    found = asyncio.run(AddressBook(Names("10.0.0.2", "fd00::1", "10.0.0.2")).expand(routes))
    first = BackendRoute(url="http://10.0.0.2:8085", control_url="http://10.0.0.2:8086")
    second = BackendRoute(url="http://[fd00::1]:8085", control_url="http://[fd00::1]:8086")
    assert found.production == (plain, first, second)
    assert found.canary == Canary(weight=0.2, backends=(first, second))


def test_the_last_addresses_stay_while_a_host_cannot_be_looked_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = Names("10.0.0.2")
    book = AddressBook(names)
    routes = Routes(production=(WORKERS,))

    async def look_up() -> int:
        return len((await book.expand(routes)).production)

    assert asyncio.run(look_up()) == 1
    names.addresses = None
    with caplog.at_level(logging.ERROR):
        assert [asyncio.run(look_up()) for _ in range(3)] == [1, 1, 1]
    assert caplog.text.count("cannot be looked up") == 1
    names.addresses = ("10.0.0.3", "10.0.0.4")
    assert asyncio.run(look_up()) == 2


def test_a_host_that_was_never_found_has_no_backends() -> None:
    names = Names()
    names.addresses = None
    assert asyncio.run(AddressBook(names).expand(Routes(production=(WORKERS,)))) == Routes()


def test_the_systems_own_names_are_looked_up() -> None:
    assert "127.0.0.1" in asyncio.run(addresses_of("127.0.0.1"))
    assert {"127.0.0.1", "::1"} & set(asyncio.run(addresses_of("localhost")))


@pytest.mark.parametrize(
    "control_url", ["http://others:8086", "https://workers:8086"], ids=["host", "https"]
)
def test_both_urls_have_one_host_without_tls(tmp_path: Path, control_url: str) -> None:
    route = {"url": WORKERS.url, "control_url": control_url, "each_address": True}
    file = tmp_path / "routes.json"
    file.write_text(json.dumps({"production": [route]}))
    assert RoutesFile(file).changed() is None


def _tell(gateway: SmallGateway, port: int) -> None:
    url = f"http://workers:{port}"
    route = BackendRoute(url=url, control_url=url, each_address=True)
    gateway.routes_file.write_text(Routes(production=(route,)).model_dump_json())


def test_a_cancellation_reaches_the_worker_that_computes(tmp_path: Path) -> None:
    async def scenario(first: SmallBackend, second: SmallBackend) -> None:
        async with small_gateway(tmp_path, resolve=Names("127.0.0.1", "127.0.0.2")) as gateway:
            _tell(gateway, first.port)
            await until(lambda: [s.ready for s in gateway.pool.states()] == [True, True])
            for backend in (first, second):
                backend.plan.append("hold")
            requests = [asyncio.create_task(gateway.edit()) for _ in range(2)]
            await until(lambda: first.arrived.is_set() and second.arrived.is_set())
            assert [s.in_flight for s in gateway.pool.states()] == [1, 1]
            for request in requests:
                request.cancel()
            await until(lambda: bool(first.canceled and second.canceled))
            for backend in (first, second):
                assert backend.canceled == [backend.headers[0]["x-npe-request-id"]]

    with SmallBackend() as first, SmallBackend(address=("127.0.0.2", first.port)) as second:
        asyncio.run(scenario(first, second))


def test_workers_come_and_go_with_their_addresses(tmp_path: Path) -> None:
    async def scenario(old: SmallBackend, new: SmallBackend) -> None:
        names = Names("127.0.0.1")
        async with small_gateway(tmp_path, resolve=names) as gateway:
            _tell(gateway, old.port)
            await until(lambda: [s.ready for s in gateway.pool.states()] == [True])
            old.plan.append("hold")
            request = asyncio.create_task(gateway.edit())
            await until(old.arrived.is_set)
            names.addresses = ("127.0.0.2",)
            await until(lambda: any(s.url == new.url and s.ready for s in gateway.pool.states()))
            assert (await gateway.edit()).status_code == 200
            assert (len(old.received), len(new.received)) == (1, 1)
            old.release.set()  # What it has is answered though its address is gone.
            assert (await request).status_code == 200
            await until(lambda: [s.url for s in gateway.pool.states()] == [new.url])

    with SmallBackend() as old, SmallBackend(address=("127.0.0.2", old.port)) as new:
        asyncio.run(scenario(old, new))
