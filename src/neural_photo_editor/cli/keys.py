"""``npe keys``: make, list, revoke and rotate the API keys of a gateway."""

import argparse
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from neural_photo_editor.api.key_file import (
    DEFAULT_KEYS_FILE,
    OPERATIONS,
    ApiKey,
    Operation,
    changed_keys,
    create_key,
    read_keys,
    rotate_key,
)

EXIT_OK = 0
EXIT_FILE = 1

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_UNLIMITED = "unlimited"


def add_keys_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``keys create``, ``list``, ``revoke`` and ``rotate`` to the command line."""
    keys = commands.add_parser("keys", help="make, list, revoke or rotate API keys of a gateway")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--file", type=Path, default=DEFAULT_KEYS_FILE, help="file of keys (default: %(default)s)"
    )

    create = actions.add_parser(
        "create",
        parents=[shared],
        help="make a key and write it to the output, once",
        description="A limit is a number or 'unlimited'.",
    )
    create.add_argument("--name", required=True, help="who or what it is for")
    create.add_argument(
        "--allow",
        type=_operations,
        default=OPERATIONS,
        metavar="LIST",
        help=f"comma-separated, of {', '.join(OPERATIONS)} (default: all)",
    )
    create.add_argument("--expires", type=_duration, metavar="90d", help="default: never")
    for option, default, meaning in (
        ("--per-minute", 60, "requests a minute, on average"),
        ("--per-day", 1000, "requests a day"),
        ("--in-flight", 4, "requests being answered at one time"),
    ):
        create.add_argument(
            option, type=_limit, default=default, metavar="N", help=f"{meaning} (%(default)s)"
        )
    create.add_argument(
        "--burst", type=int, default=10, metavar="N", help="requests at once (%(default)s)"
    )
    create.set_defaults(run=_create)

    show = actions.add_parser("list", parents=[shared], help="show the keys, without secrets")
    show.set_defaults(run=_list)

    revoke = actions.add_parser("revoke", parents=[shared], help="stop a key at once, for good")
    revoke.add_argument("id", help="the middle part of the key: npe_ID_...")
    revoke.set_defaults(run=_revoke)

    rotate = actions.add_parser("rotate", parents=[shared], help="give a key a new secret")
    rotate.add_argument("id", help="the middle part of the key: npe_ID_...")
    rotate.add_argument(
        "--grace",
        type=_duration,
        default=timedelta(hours=24),
        metavar="24h",
        help="the old secret works for so long (default: 24h)",
    )
    rotate.set_defaults(run=_rotate)


def run_keys(options: argparse.Namespace) -> int:
    """Run ``npe keys`` and return its exit status."""
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"npe: {error}\n")
        return EXIT_FILE
    return EXIT_OK


def _create(options: argparse.Namespace) -> None:
    now = _now()
    key, text = create_key(
        options.name,
        now=now,
        expires=None if options.expires is None else now + options.expires,
        allows=options.allow,
        requests_per_minute=options.per_minute,
        burst=options.burst,
        requests_per_day=options.per_day,
        max_in_flight=options.in_flight,
    )
    with changed_keys(options.file) as keys:
        keys.append(key)
    _hand_over(key, text, options.file)


def _list(options: argparse.Namespace) -> None:
    now = _now()
    rows = [("ID", "STATE", "CREATED", "EXPIRES", "ALLOWS", "PER MINUTE", "PER DAY", "NAME")]
    for key in read_keys(options.file):
        rows.append(
            (
                key.id,
                key.state(now),
                f"{key.created:%Y-%m-%d}",
                "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}",
                ",".join(key.allows),
                str(key.requests_per_minute or _UNLIMITED),
                str(key.requests_per_day or _UNLIMITED),
                key.name,
            )
        )
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def _revoke(options: argparse.Namespace) -> None:
    with changed_keys(options.file) as keys:
        index = _index_of(keys, options.id)
        if keys[index].revoked is None:
            keys[index] = keys[index].model_copy(update={"revoked": _now()})
    sys.stderr.write(f"npe: key {options.id} no longer works\n")


def _rotate(options: argparse.Namespace) -> None:
    with changed_keys(options.file) as keys:
        index = _index_of(keys, options.id)
        keys[index], text = rotate_key(keys[index], now=_now(), grace=options.grace)
    _hand_over(keys[index], text, options.file)
    until = keys[index].secrets[1].expires
    sys.stderr.write(f"npe: the old secret works until {until:%Y-%m-%d %H:%M} UTC\n")


def _hand_over(key: ApiKey, text: str, file: Path) -> None:
    sys.stderr.write(f"npe: key {key.id} is in {file}; its text, shown only now:\n")
    sys.stdout.write(text + "\n")


def _index_of(keys: list[ApiKey], key_id: str) -> int:
    for index, key in enumerate(keys):
        if key.id == key_id:
            return index
    raise ValueError("there is no key with this id: see 'npe keys list'")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _operations(text: str) -> tuple[Operation, ...]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(OPERATIONS)):
        raise argparse.ArgumentTypeError(
            f"there is no operation {unknown[0]!r}: choose from {', '.join(OPERATIONS)}"
        )
    return tuple(operation for operation in OPERATIONS if operation in names)


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,5})([mhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError("write a number and m, h or d, such as 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _limit(text: str) -> int | None:
    return None if text == _UNLIMITED else int(text)
