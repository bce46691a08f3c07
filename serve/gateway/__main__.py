"""``python -m serve.gateway``: run the gateway until SIGTERM or Ctrl-C."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serve.gateway.logs import configure_logs
from serve.gateway.server import open_to_all, run, with_keys
from serve.gateway.settings import DEFAULT_FILE, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        settings = load_settings(options.config, host=options.host, port=options.port)
        configure_logs()
        run(settings, open_to_all(settings) if options.no_keys else with_keys(settings))
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve.gateway", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_FILE, help="the settings' YAML file")
    parser.add_argument("--host", help="public address, instead of the file's")
    parser.add_argument("--port", type=int, help="public port, instead of the file's")
    parser.add_argument("--no-keys", action="store_true", help="ask for no keys; loopback only")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
