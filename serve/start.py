"""``python serve/start.py``: serve a bundle on loopback until Ctrl-C or SIGTERM."""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from torchserve_process import TorchServeProcess

REPOSITORY = Path(__file__).resolve().parent.parent

_READY = """\
ready: {url} (model {model}, {memory_mib:.0f} MiB); Ctrl-C stops it

  npe edit portrait.jpg --regions hair --color '#8a3ffc' -o edited.png --server {url}
  npe segment portrait.jpg --colorize --server {url}
  curl -F operation=upscale -F photo=@portrait.jpg {url}/predictions/{model} -o upscaled.png
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--mar", type=Path, help="the archive to serve")
    choice.add_argument(
        "--bundle-dir",
        type=Path,
        default=REPOSITORY / "outputs",
        help="serve the newest .mar in this folder or below (default: outputs/)",
    )
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one")
    parser.add_argument("--workdir", type=Path, default=REPOSITORY / "outputs" / "serve")
    options = parser.parse_args(arguments)
    stopping = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stopping.set())
    try:
        mar = options.mar or _newest_archive(options.bundle_dir)
        _say(f"starting TorchServe with {mar} ...")
        return _serve(mar, options.workdir, options.port, stopping)
    except (ValueError, RuntimeError) as error:
        _say(f"error: {error}")
        return 1


def _serve(mar: Path, workdir: Path, port: int, stopping: threading.Event) -> int:
    with TorchServeProcess(mar, workdir=workdir, port=port) as server:
        _say(
            _READY.format(
                url=server.inference_url,
                model=server.model,
                memory_mib=server.memory_bytes() / 2**20,
            )
        )
        while not stopping.wait(timeout=1.0):
            if not server.is_running():
                _say(f"error: TorchServe ended:\n{server.log_tail()}")
                return 1
        _say("stopping ...")
    _say("stopped")
    return 0


def _newest_archive(folder: Path) -> Path:
    archives = sorted(folder.rglob("*.mar"), key=lambda path: path.stat().st_mtime)
    if not archives:
        raise ValueError(
            f"there is no .mar below {folder}: run 'make demo' first, or name one with --mar"
        )
    return archives[-1]


def _say(message: str) -> None:
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
