"""Two network namespaces as two hosts: one of them is lost, a scheduler replaces it.

``NPE_TEST_HOST_KILLS=10`` in the environment loses a host in ten trainings, every other time by
cutting it off, and ``NPE_TEST_SEED=1`` others at other steps.
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.integration.sample_record import read_record, read_steps
from tests.integration.training_process import (
    STEPS,
    TORCHRUN_MODULE,
    Training,
    after_steps,
    assert_same_weights,
    still_running,
)

LOSSES = int(os.environ.get("NPE_TEST_HOST_KILLS", "1"))
SEED = int(os.environ.get("NPE_TEST_SEED", "0"))
INTERVAL = 2  # callbacks.last.every_n_steps


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Host:
    """A network namespace with an address of its own; what runs in it may be lost."""

    def __init__(self, number: int, run_dir: Path, shards: Path) -> None:
        self.number = number
        self.name = f"npe-{os.getpid()}-{number}"
        self.link, self.address = f"npe{number}", f"10.213.7.{number + 1}"
        self.run_dir, self.shards = run_dir, shards
        self.training: Training | None = None
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        here = ("netns", "exec", self.name)
        self.training = Training(
            self.shards,
            self.run_dir,
            "collective_timeout_s=20",
            prefix=("ip", *here),
            launcher=(
                *TORCHRUN_MODULE,
                "--nnodes=2",
                "--nproc-per-node=1",
                "--rdzv-backend=c10d",
                "--rdzv-endpoint=10.213.7.1:29471",
                # torchrun looks for its endpoint behind the machine's name, which both hosts have.
                f"--rdzv-conf=is_host={not self.number},keep_alive_interval=2",
                f"--local-addr={self.address}",
                "--max-restarts=5",
            ),
            environment={"GLOO_SOCKET_IFNAME": self.link},
        )

    def set_link(self, state: str) -> None:
        _ip("-n", self.name, "link", "set", self.link, state)

    def rank_process(self) -> psutil.Process:
        assert self.training is not None
        return self.training.rank(0)


@pytest.fixture
def hosts(small_shards: Path, tmp_path: Path) -> Iterator[list[Host]]:
    """Two hosts with one cable between them."""
    made = [Host(number, tmp_path / "run", small_shards) for number in (0, 1)]
    one, two = made
    try:
        for host in made:
            _ip("netns", "add", host.name)
        peer = ("type", "veth", "peer", "name", two.link, "netns", two.name)
        _ip("link", "add", one.link, "netns", one.name, *peer)
        for host in made:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.link)
            _ip("-n", host.name, "link", "set", "lo", "up")
            host.set_link("up")
    except OSError as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")
    try:
        yield made
    finally:
        for host in made:
            if host.training is not None:
                host.training.kill()
            subprocess.run(["ip", "netns", "del", host.name], check=False)


def _supervise(hosts: list[Host], *, timeout_s: float) -> None:
    """Start what failed again, as a scheduler does, until all hosts have finished."""
    end = time.monotonic() + timeout_s
    while True:
        codes = [host.training.process.poll() for host in hosts if host.training is not None]
        if all(code == 0 for code in codes):
            return
        assert time.monotonic() < end, (hosts[0].run_dir / "output.log").read_text()
        for host, code in zip(hosts, codes, strict=True):
            if code:
                assert host.starts < 5, (host.run_dir / "output.log").read_text()
                host.start()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(LOSSES))
def test_a_lost_host_is_replaced_and_the_training_goes_on(
    number: int, hosts: list[Host], whole_run: Path
) -> None:
    rng = random.Random(f"hosts {SEED} {number}")
    lost, other = rng.sample(hosts, 2) if number else hosts[::-1]
    run_dir = lost.run_dir
    for host in hosts:
        host.start()
    assert lost.training is not None
    lost.training.wait_until(after_steps(run_dir, steps=rng.randint(1, STEPS - 5)))
    if number % 2:
        ranks = [host.rank_process() for host in hosts]
        lost.set_link("down")
        # Nobody is told: the other one notices by itself that nothing comes any more.
        assert not still_running([ranks[hosts.index(other)]], timeout_s=90.0)
        lost.training.kill()
        lost.set_link("up")
    else:
        lost.training.kill()
    _supervise(hosts, timeout_s=240)

    assert lost.starts > 1
    assert_same_weights(whole_run, run_dir)
    expected, actual = read_record(whole_run / "record"), read_record(run_dir / "record")
    for step, ranks_of in expected.items():
        assert {r: set(s) for r, s in actual[step].items()} == {
            r: set(s) for r, s in ranks_of.items()
        }
    jumps = [(a, b) for a, b in pairwise(read_steps(run_dir / "record")) if b != a + 1]
    assert all(last - (again - 1) <= INTERVAL for last, again in jumps)
