"""What all commands that ask a server share: its address and key, and exit statuses."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from neural_photo_editor.api.client import EditClient
from neural_photo_editor.api.client_calls import API_KEY_VARIABLE, DEFAULT_URL
from neural_photo_editor.api.client_errors import EditError, WrongRequestError
from neural_photo_editor.api.errors import RequestError

EXIT_OK = 0
EXIT_FILE = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_SERVER = 4
EXIT_CANCELED = 130

_MAX_KEY_BYTES = 4096


def connection_options() -> argparse.ArgumentParser:
    """Return a parent parser with the options that say how to reach the server."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group(
        "server", f"Its key is taken from the environment variable {API_KEY_VARIABLE}."
    )
    group.add_argument("--server", default=DEFAULT_URL, help="default: %(default)s")
    group.add_argument("--key-file", type=Path, metavar="FILE", help="take the key from this file")
    group.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds to wait for an answer; of an edit, for a sign of life, at most 30",
    )
    return parser


def connect(options: argparse.Namespace) -> EditClient:
    """Return the client that the options describe; raises OSError and ValueError."""
    key = None
    if options.key_file is not None:
        with options.key_file.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES).decode("ascii", errors="replace")
    return EditClient(
        options.server,
        api_key=key,
        timeout_s=options.timeout,
        connect_timeout_s=min(10.0, options.timeout),
        events_timeout_s=min(30.0, options.timeout),
    )


def run_on_server(options: argparse.Namespace) -> int:
    """Run a command that asks a server and return its exit status, having said what is wrong."""
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        say("canceled: the connection is closed, and the server gives the work up")
        return EXIT_CANCELED
    except WrongRequestError as error:
        say(str(error))
        return EXIT_USAGE
    except EditError as error:
        # Who runs the server finds the request by this.
        request = f"; request {error.request_id}" if error.request_id else ""
        say(f"{error}{request}")
        refused = error.status is not None and 400 <= error.status < 500
        return EXIT_REFUSED if refused else EXIT_SERVER
    except (OSError, RequestError) as error:
        say(str(error))
        return EXIT_FILE
    except ValueError as error:
        say(str(error))
        return EXIT_USAGE


def say(message: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"npe: {message}\n")
