"""Programs in the root file systems of built images, confined as a container engine would do it.

Linux and root only: each gets a mount and a process namespace, a read-only root, uid 10001 and no
capabilities. Those of one pod share a network in which there is nothing but they.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import psutil

from tests.unit.images.dockerfile import read_dockerfile

UID = 10001
HOME = "/var/lib/npe"
"""Where the folder is mounted that a program may write to, besides /tmp."""

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h
_NUM_THREADS = 16
# Arguments: root, folder, then what to run.
_CONFINE = """
root=$1 folder=$2; shift 2
mount --bind "$root" "$root"
touch "$root/etc/hosts"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$folder" "$root/var/lib/npe"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null zero full random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
echo 127.0.0.1 localhost > "$root/dev/hosts"
mount --bind "$root/dev/hosts" "$root/etc/hosts"
exec chroot "$root" setpriv --reuid 10001 --regid 10001 --clear-groups --inh-caps=-all \\
  --bounding-set=-all --no-new-privs -- env -i --chdir=/app "$@"
"""
_T = TypeVar("_T")


class Network:
    """A network of its own with nothing but loopback: fixed ports are free, and nobody gets out.

    It exists as long as one of its threads or processes does.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        with ThreadPoolExecutor(1) as maker:
            self._handle = maker.submit(self._make).result()
        self._threads = ThreadPoolExecutor(_NUM_THREADS, initializer=self._enter)

    def submit(self, function: Callable[..., _T], *arguments: Any, **named: Any) -> Future[_T]:
        """Call a function in this network; processes that it starts stay there."""
        return self._threads.submit(function, *arguments, **named)

    def close(self) -> None:
        self._threads.shutdown()
        os.close(self._handle)

    def _make(self) -> int:
        self._check(self._libc.unshare(_CLONE_NEWNET))
        with socket.socket() as any_socket:
            request = struct.pack("16sh", b"lo", _IFF_UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def _enter(self) -> None:
        self._check(self._libc.setns(self._handle, _CLONE_NEWNET))

    def _check(self, status: int) -> None:
        if status != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass
class Container:
    """A running program, process 1 of its namespace."""

    runner: "subprocess.Popen[bytes]"
    log: Path

    @property
    def process(self) -> psutil.Process:
        """The program as seen from outside: what an engine sends its signals to."""
        (one,) = psutil.Process(self.runner.pid).children()
        return one

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_status(self, *, within_s: float) -> int:
        return self.runner.wait(timeout=within_s)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Images:
    """The root file systems: a folder of this name for each target of the Dockerfile."""

    folder: Path

    def root(self, target: str) -> Path:
        return self.folder / target

    @contextmanager
    def running(
        self,
        target: str,
        *arguments: str,
        folder: Path,
        network: Network,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Container]:
        """Start a container, and kill whatever is left of it at the end.

        Args:
            target: of the Dockerfile.
            arguments: of the image's entry point.
            folder: mounted at HOME.
            network: that it joins.
            command: instead of the entry point and its arguments.
            environment: variables besides the image's own.
        """
        stage = read_dockerfile()[target]
        variables = {**stage.environment, **(environment or {})}
        variables["PATH"] = "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"
        folder.mkdir(exist_ok=True)
        os.chown(folder, UID, UID)
        line = [
            *("unshare", "--mount", "--pid", "--fork", "--propagation", "private"),
            *("sh", "-euc", _CONFINE, "sh", str(self.root(target)), str(folder)),
            *(f"{name}={value}" for name, value in variables.items()),
            *(command if command is not None else (*stage.entry_point, *arguments)),
        ]
        with NamedTemporaryFile(dir=folder, prefix=f"{target}-", delete=False) as output:
            options: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT}
            runner = network.submit(subprocess.Popen, line, **options).result()
        try:
            yield Container(runner, Path(output.name))
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in psutil.Process(runner.pid).children():
                    one.kill()  # With process 1 the kernel ends all of the namespace.
            runner.kill()
            runner.wait()

    def run(
        self, target: str, *command: str, folder: Path, network: Network, within_s: float = 120.0
    ) -> str:
        """Run a command instead of the entry point to its end, and return what it printed.

        Raises:
            AssertionError: it failed.
        """
        with self.running(target, folder=folder, network=network, command=command) as one:
            assert one.exit_status(within_s=within_s) == 0, one.said()
            return one.said()


def health(images: Images, target: str, *, folder: Path, network: Network) -> int:
    """Return the exit status of the image's health command."""
    command = read_dockerfile()[target].health_command
    assert command is not None
    with images.running(target, folder=folder, network=network, command=command) as one:
        return one.exit_status(within_s=30)
