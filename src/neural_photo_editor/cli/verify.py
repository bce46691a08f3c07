"""``npe verify`` checks the receipt of an edit; ``npe receipt-key`` makes keys for receipts."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neural_photo_editor.api.receipt import Receipt
    from neural_photo_editor.api.verification import Check

EXIT_OK = 0
EXIT_FILE = 1
EXIT_FAILED = 6
EXIT_UNPROVEN = 7

_MAX_FILE_BYTES = 2**29
_MAX_KEY_FILE_BYTES = 2**16


def add_verify_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``verify`` and ``receipt-key`` to the command line."""
    verify = commands.add_parser(
        "verify",
        help="check an edit's signed receipt",
        description="Exit status: 0 all is proven, 6 a check failed, 7 none failed, but not "
        "everything is proven, 1 a file cannot be read.",
    )
    verify.add_argument("original", type=Path, help="the photo as it was sent")
    verify.add_argument("edited", type=Path, help="the photo as it came back")
    verify.add_argument("receipt", type=Path, help="the receipt, a JSON file")
    verify.add_argument(
        "--public-key",
        metavar="FILE|BASE64",
        help="the server's key; a file may hold several, one a line (without it: a receipt that "
        "was not changed, but of whom?)",
    )
    verify.add_argument("--mask", type=Path, help="mask image, to compare with the receipt's")
    verify.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR|MAR",
        help="make the edit again with these models and compare the bytes",
    )
    verify.add_argument("--json", action="store_true", help="write the checks as JSON")
    verify.set_defaults(run=_verify)

    key = commands.add_parser("receipt-key", help="make or show a key that signs receipts")
    actions = key.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key; its public half is written to the output")
    new.add_argument("file", type=Path, help="secret file to write, for docker's --env-file")
    new.set_defaults(run=_new_key)
    show = actions.add_parser("show", help="show the public half of the key in NPE_RECEIPT_KEY")
    show.set_defaults(run=_show_key)


def run_verify(options: argparse.Namespace) -> int:
    """Run ``npe verify`` or ``npe receipt-key`` and return the exit status."""
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ModuleNotFoundError as error:
        extra = "receipts" if (error.name or "").startswith("cryptography") else "serve"
        sys.stderr.write(
            f"npe: this needs a package that is absent ({error.name}): "
            f"pip install 'neural-photo-editor[{extra}]'\n"
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"npe: {error}\n")
    return EXIT_FILE


# Imported late: a bare install, which only talks to a server, has no cryptography, and only
# replaying needs torch.
def _verify(options: argparse.Namespace) -> int:
    from neural_photo_editor.api.receipt import MAX_RECEIPT_BYTES, read_receipt
    from neural_photo_editor.api.verification import Check, Outcome, verify_receipt

    receipt = read_receipt(_read(options.receipt, at_most=MAX_RECEIPT_BYTES))
    original, edited = _read(options.original), _read(options.edited)
    checks = verify_receipt(
        receipt,
        original=original,
        edited=edited,
        trusted_keys=_trusted_keys(options.public_key),
        mask=None if options.mask is None else _read(options.mask),
    )
    failed = [check.name for check in checks if check.outcome is Outcome.FAILED]
    if options.bundle is not None and {"signature", "photo"} & set(failed):
        # Nobody's receipt decides what this machine computes.
        detail = f"not tried: {', '.join(failed)} failed"
        checks.append(Check("replay", Outcome.UNPROVEN, detail))
    elif options.bundle is not None:
        from neural_photo_editor.editing.replay import check_replay, unpacked_bundle

        with unpacked_bundle(options.bundle) as folder:
            checks.append(check_replay(receipt, photo=original, edited=edited, bundle=folder))
    outcomes = {check.outcome for check in checks}
    worst = next(one for one in reversed(Outcome) if one in outcomes)
    sys.stdout.write(_as_json(receipt, checks) if options.json else _as_text(checks))
    return {Outcome.OK: EXIT_OK, Outcome.UNPROVEN: EXIT_UNPROVEN}.get(worst, EXIT_FAILED)


def _as_text(checks: "list[Check]") -> str:
    return "".join(f"{check.name:<10} {check.outcome:<9} {check.detail}\n" for check in checks)


def _as_json(receipt: "Receipt", checks: "list[Check]") -> str:
    document = {
        "key_id": receipt.key_id,
        "time": receipt.time,
        "bundle_digest": receipt.bundle_digest,
        "checks": [
            {"name": check.name, "outcome": check.outcome.value, "detail": check.detail}
            for check in checks
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _read(path: Path, *, at_most: int = _MAX_FILE_BYTES) -> bytes:
    with path.open("rb") as file:
        data = file.read(at_most + 1)
    if len(data) > at_most:
        raise ValueError(f"{path} has more than {at_most:,} bytes")
    return data


def _trusted_keys(text: str | None) -> list[bytes]:
    from neural_photo_editor.api.signing import key_from_text

    if text is None:
        return []
    if Path(text).is_file():
        text = _read(Path(text), at_most=_MAX_KEY_FILE_BYTES).decode("ascii", errors="replace")
    keys = [key_from_text(word) for word in text.split()]
    if not keys:
        raise ValueError("--public-key: there is no key in it")
    return keys


def _new_key(options: argparse.Namespace) -> int:
    from neural_photo_editor.api.signing import KEY_BYTES, KEY_VARIABLE, SigningKey, key_to_text

    secret = os.urandom(KEY_BYTES)
    # Never over a key that is in use, and for its owner's eyes from the first byte on.
    descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{KEY_VARIABLE}={key_to_text(secret)}\n")
    key = SigningKey(secret)
    sys.stderr.write(f"npe: wrote the secret key {key.key_id} to {options.file}\n")
    sys.stdout.write(key_to_text(key.public_key) + "\n")
    return EXIT_OK


def _show_key(options: argparse.Namespace) -> int:  # noqa: ARG001
    from neural_photo_editor.api.signing import KEY_VARIABLE, public_key_info

    info = public_key_info()
    if info is None:
        raise ValueError(f"{KEY_VARIABLE} is not set")
    sys.stderr.write(f"npe: key {info['key_id']}\n")
    sys.stdout.write(info["public_key"] + "\n")
    return EXIT_OK
