"""``python -m serve.worker``: one TorchServe in the foreground, as a container runs it.

On SIGTERM it is ready no more, so that the gateway sends it nothing; it stops when what it has is
answered. A second signal does not wait. The exit status is 0 then, and 1 when it could not start
or ended by itself: whoever runs containers starts it again.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from neural_photo_editor.common.log import configure_logging, get_logger
from serve.child_process import CONTROL_TOKEN_VARIABLE
from serve.torchserve_process import TorchServeProcess

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LOOK_EVERY_S = 0.5
_ANSWER_S = 5.0

_log = get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    configure_logging()
    stopping, hurry = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        _check_token(options.host)
        process = TorchServeProcess(
            options.mar,
            workdir=options.workdir,
            host=options.host,
            port=options.port,
            control_port=options.control_port,
        )
        _serve(process, stopping, hurry, drain_s=options.drain_s, delay_s=options.drain_delay_s)
    except (ValueError, RuntimeError, OSError) as error:
        _log.error("%s", error)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m serve.worker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mar", type=Path, required=True, help="the archive to serve")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="of inference and control; 0.0.0.0 only where a network policy lets nobody in but "
        "the gateway, and with NPE_CONTROL_TOKEN set (%(default)s)",
    )
    parser.add_argument("--port", type=int, default=8085, help="of inference (%(default)s)")
    parser.add_argument("--control-port", type=int, default=8086, help="(%(default)s)")
    parser.add_argument("--workdir", type=Path, required=True, help="for configuration and logs")
    parser.add_argument(
        "--drain-s",
        type=float,
        default=120.0,
        help="longest wait for requests at the end, in seconds (%(default)s)",
    )
    parser.add_argument(
        "--drain-delay-s",
        type=float,
        default=3.0,
        help="shortest wait: until gateways have seen that it is not ready (%(default)s)",
    )
    return parser.parse_args(arguments)


def _check_token(host: str) -> None:
    if host not in _LOOPBACK and not os.environ.get(CONTROL_TOKEN_VARIABLE):
        raise ValueError(
            f"--host {host}: others could cancel requests there; set {CONTROL_TOKEN_VARIABLE}, "
            "also for the gateway, or listen at 127.0.0.1"
        )


def _serve(
    process: TorchServeProcess,
    stopping: threading.Event,
    hurry: threading.Event,
    *,
    drain_s: float,
    delay_s: float,
) -> None:
    try:
        process.launch()
        # Gateways ask the worker itself, and may send requests before it is known here.
        while not stopping.is_set() and not process.check_ready():
            stopping.wait(_LOOK_EVERY_S)
        if not stopping.is_set():
            _log.info("serving %s at %s", process.model, process.inference_url)
        while not stopping.wait(_LOOK_EVERY_S):
            if not process.is_running():
                raise RuntimeError(f"TorchServe ended:\n{process.log_tail()}")
        _log.info("stopping when all requests are answered, within %.0f s", drain_s)
        _drain(process, hurry, drain_s=drain_s, delay_s=delay_s)
    finally:
        process.stop()
    _log.info("stopped")


def _drain(
    process: TorchServeProcess, hurry: threading.Event, *, drain_s: float, delay_s: float
) -> None:
    """Return once nothing has been waiting or computed for a while, or the time is up."""
    token = os.environ.get(CONTROL_TOKEN_VARIABLE)
    start = quiet_since = time.monotonic()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(
        base_url=process.control_url, headers=headers, timeout=_ANSWER_S, trust_env=False
    ) as control:
        while process.is_running():
            if _num_requests(process, control):
                quiet_since = time.monotonic()
            now = time.monotonic()
            if now - start >= delay_s and now - quiet_since >= 2 * _LOOK_EVERY_S:
                return
            if now - start >= drain_s:
                _log.warning("requests are given up after %.0f s", drain_s)
                return
            if hurry.wait(_LOOK_EVERY_S):
                return


def _num_requests(process: TorchServeProcess, control: httpx.Client) -> int:
    """Return how many requests wait or are computed; also tells the worker that it is to stop."""
    try:
        reply = control.post("/drain")
        computed = int(reply.json()["in_flight"])
    except httpx.TimeoutException:
        computed = 1  # at least: it is short of CPU time
    except (httpx.TransportError, ValueError, KeyError):
        computed = 0  # Its worker has ended, and with it what it computed.
    return process.num_waiting() + computed


if __name__ == "__main__":
    sys.exit(main())
