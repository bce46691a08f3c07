"""Routes whose host stands for several workers, such as the pods of one Kubernetes Service."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import httpx

from serve.gateway.routes import BackendRoute, Canary, Routes

logger = logging.getLogger(__name__)

_TIMEOUT_S = 5.0

Resolve = Callable[[str], Awaitable[Sequence[str]]]


async def addresses_of(host: str) -> Sequence[str]:
    """Return every address that a host has, in no order; OSError if there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class AddressBook:
    """Turns each route with ``each_address`` into one for each address of its host.

    What a host had last stays in force while it cannot be looked up, or has no address: whether
    workers are there is what polling them tells.
    """

    def __init__(self, resolve: Resolve = addresses_of) -> None:
        self._resolve = resolve
        self._known: dict[str, tuple[str, ...]] = {}
        self._complained: set[str] = set()

    async def expand(self, routes: Routes) -> Routes:
        """Return the routes with the addresses that the hosts have now."""
        given = [*routes.production, *(routes.canary.backends if routes.canary else ())]
        hosts = {httpx.URL(route.url).host for route in given if route.each_address}
        await asyncio.gather(*(self._look_up(host) for host in hosts))
        production = tuple(one for route in routes.production for one in self._each(route))
        canary = routes.canary and Canary(
            weight=routes.canary.weight,
            backends=tuple(one for route in routes.canary.backends for one in self._each(route)),
        )
        return Routes(production=production, canary=canary)

    async def _look_up(self, host: str) -> None:
        try:
            # What is given up keeps its thread, one of libuv's four, until the system gives up.
            # Later look-ups may wait for one, and time out as well; requests go on meanwhile.
            async with asyncio.timeout(_TIMEOUT_S):
                self._known[host] = tuple(sorted(set(await self._resolve(host))))
            self._complained.discard(host)
        except OSError as error:  # a timeout is one, too
            if host not in self._complained:
                reason = error.strerror or "no answer"
                logger.error("%s cannot be looked up (%s); its last addresses stay", host, reason)
            self._complained.add(host)

    def _each(self, route: BackendRoute) -> list[BackendRoute]:
        if not route.each_address:
            return [route]
        return [
            BackendRoute(
                url=_at(route.url, address),
                control_url=_at(route.control_url, address),
                model=route.model,
            )
            for address in self._known.get(httpx.URL(route.url).host, ())
        ]


def _at(url: str, address: str) -> str:
    return str(httpx.URL(url).copy_with(host=address))
