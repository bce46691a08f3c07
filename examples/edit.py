"""Recolor a region of a photo, with progress, a preview that grows clearer, and a signed receipt.

    export NPE_API_KEY=npe_...
    python examples/edit.py portrait.png hair

Writes preview.webp while the edit is made, then edited.png and, if the server signs, receipt.json.
"""

import argparse
import json
import sys
from pathlib import Path

from neural_photo_editor.api import EditCanceled, EditClient, EditError, Progress


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("region")
    parser.add_argument("--color", default="#8a3ffc")
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="give up there")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()

    def show(progress: Progress) -> bool:
        print(f"step {progress.step} of {progress.total_steps}")
        if progress.preview is not None:
            Path("preview.webp").write_bytes(progress.preview)
        # False cancels the edit, on the server, too.
        return options.stop_at is None or progress.step < options.stop_at

    try:
        with EditClient(options.server) as client:
            edit = client.edit(
                options.photo,
                regions=[options.region],
                color=options.color,
                strength=0.5,
                steps=40,
                format="png",
                receipt=bool(client.info()["receipt_keys"]),
                on_progress=show,
            )
    except EditCanceled:
        print("canceled")
        return 0
    except EditError as error:
        print(error)  # names the field at fault and the remedy
        return 1
    edit.save("edited.png")
    if edit.receipt is not None:
        Path("receipt.json").write_text(json.dumps(edit.receipt))
    print(f"seed {edit.metadata.seed}, made by bundle {edit.metadata.bundle_digest[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
