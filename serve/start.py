"""``python serve/start.py``: serve a bundle on loopback, TorchServe with the gateway in front.

Runs until Ctrl-C, SIGTERM or the terminal is closed; then requests that were begun are answered
first. A second Ctrl-C does not wait for them.
"""

import argparse
import contextlib
import os
import secrets
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A script finds modules in its own folder only: the package `serve` is found from the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neural_photo_editor.common.log import configure_logging
from serve.child_process import CONTROL_TOKEN_VARIABLE
from serve.development_key import ensure_development_key
from serve.gateway.settings import DEFAULT_FILE, GatewaySettings, load_settings
from serve.gateway_process import REPOSITORY, GatewayProcess
from serve.sources import ArchiveSource, RegistrySource, Source
from serve.supervisor import Supervisor

_READY = """\
ready: {url} (bundle {digest}); Ctrl-C stops it
{editor}
{key}  npe edit portrait.png --regions hair --color '#8a3ffc' -o edited.png{server}
  npe segment portrait.png --colorize -o regions.png{server}
  curl {header}-F photo=@portrait.png {url}/v1/upscale -o upscaled.png

its interface: {url}/docs{grpc}; log and state: {workdir}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        supervisor = _supervisor(options)
        configure_logging()
        stopping, hurry = threading.Event(), threading.Event()
        _follow_signals(stopping, hurry)
        supervisor.run(stopping, hurry=hurry)
    except (ValueError, RuntimeError, OSError) as error:
        _say(f"error: {error}")
        return 1
    _say("stopped")
    return 0


def _follow_signals(stopping: threading.Event, hurry: threading.Event) -> None:
    """Let the first signal begin the end and the second one hurry it."""

    def on_signal(*_: object) -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    # A terminal that is closed sends SIGHUP, perhaps twice; whom `nohup` started it leaves alone.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: stopping.set())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--mar", type=Path, help="the archive to serve")
    what.add_argument(
        "--bundle-dir",
        type=Path,
        default=REPOSITORY / "outputs",
        help="serve the newest .mar in this folder or below (default: outputs/)",
    )
    what.add_argument("--registry", help="serve what an alias names here: folder, s3:// or gs://")
    parser.add_argument("--alias", default="production", help="of the registry (%(default)s)")
    parser.add_argument(
        "--canary-weight",
        type=_weight,
        default=0.1,
        help="share of the requests for the alias canary; 0: none (%(default)s)",
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_FILE, help="the gateway's settings")
    parser.add_argument(
        "--port", type=int, help="public; the two after it are internal and gRPC; 0: free ones"
    )
    parser.add_argument("--no-keys", action="store_true", help="ask for no API keys")
    parser.add_argument("--workdir", type=Path, default=REPOSITORY / "outputs" / "serve")
    return parser.parse_args(arguments)


def _supervisor(options: argparse.Namespace) -> Supervisor:
    settings = _settings(options)
    key_file = None if options.no_keys else ensure_development_key(settings.keys_file)
    # Of workers and gateway; nobody else is to know it.
    token = os.environ.get(CONTROL_TOKEN_VARIABLE) or secrets.token_hex(32)
    environment = {CONTROL_TOKEN_VARIABLE: token}
    source: Source
    if options.registry is not None:
        what = f"{options.registry} ({options.alias})"
        canary = options.canary_weight > 0
        source = RegistrySource(options.registry, alias=options.alias, canary=canary)
    else:
        archive = options.mar or _newest_archive(options.bundle_dir)
        what = str(archive)
        source = ArchiveSource(archive)
    gateway = GatewayProcess(
        settings,
        workdir=options.workdir,
        keys=key_file is not None,
        environment=environment,
    )
    _say(f"starting TorchServe and the gateway with {what} ...")
    return Supervisor(
        source,
        gateway,
        workdir=options.workdir,
        canary_weight=options.canary_weight,
        environment=environment,
        persistent=options.registry is not None,
        on_ready=lambda digest: _say(_ready_text(gateway, digest, key_file, options.workdir)),
    )


def _settings(options: argparse.Namespace) -> GatewaySettings:
    """Return the gateway's settings with the files and ports of this command."""
    changes: dict[str, Any] = {
        name: str((options.workdir / file).resolve())
        for name, file in (
            ("routes_file", "routes.json"),
            ("keys_file", "keys.json"),
            ("usage_file", "usage.sqlite"),
        )
    }
    if options.port is not None:
        others = ("internal_port", "grpc_port")
        changes["port"] = options.port
        changes |= {n: options.port and options.port + i for i, n in enumerate(others, start=1)}
    if options.config == DEFAULT_FILE:
        changes["drain_delay_s"] = 0.0  # Nothing in front of it has to notice first.
    return load_settings(options.config, **changes)


def _ready_text(gateway: GatewayProcess, digest: str, key_file: Path | None, workdir: Path) -> str:
    if key_file is None:
        key = header = ""
    else:
        key = f"  export NPE_API_KEY=$(cat {shlex.quote(str(key_file))})\n"
        header = '-H "X-API-Key: $NPE_API_KEY" '
    settings = gateway.settings
    return _READY.format(
        url=gateway.url,
        digest=digest[:12],
        editor=_editor_text(gateway.url, key_file) if settings.editor else "",
        key=key,
        header=header,
        server="" if settings.port == 8080 else f" --server {gateway.url}",
        grpc=f", gRPC on port {settings.grpc_port}" if settings.grpc_port is not None else "",
        workdir=workdir,
    )


def _editor_text(url: str, key_file: Path | None) -> str:
    address = f"\nthe editor: {url}/editor/"
    if key_file is None:
        return f"{address}\n"
    if sys.stdout.isatty():
        return f"{address}#key={key_file.read_text(encoding='ascii').strip()}\n"
    return f"{address} (its key: {key_file})\n"  # Logs hold no keys.


def _newest_archive(folder: Path) -> Path:
    archives = [
        path for path in folder.rglob("*.mar") if not path.parent.name.startswith("version-")
    ]
    if not archives:
        raise ValueError(
            f"there is no .mar below {folder}: run 'make demo' first, or name one with --mar"
        )
    return max(archives, key=lambda path: path.stat().st_mtime)


def _weight(text: str) -> float:
    weight = float(text)
    if not 0.0 <= weight <= 1.0:
        raise argparse.ArgumentTypeError("choose a share from 0 to 1")
    return weight


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # The terminal may be gone.
        sys.stdout.write(message + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
