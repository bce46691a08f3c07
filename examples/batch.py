"""Edit every photo of a folder, a few at a time; what is there already is not made again.

    export NPE_API_KEY=npe_...
    python examples/batch.py photos edited --regions hair --color "#8a3ffc"

Photos that fail are named, and the others go on; the exit status is 1 if any did.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from neural_photo_editor.api import EditClient, EditError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ATTEMPTS = 5


def edit_file(photo: Path, *, client: EditClient, folder: Path, regions: str, color: str) -> bool:
    output = folder / f"{photo.stem}.png"
    if output.exists():
        return True
    for _ in range(ATTEMPTS):
        try:
            # The same seed for each makes a second run give the same files.
            edit = client.edit(photo, regions=regions.split(","), color=color, seed=1, format="png")
        except EditError as error:
            if error.retryable:  # The client itself tried again a few times; the server is busy.
                time.sleep(error.retry_after_s or 5)
                continue
            print(f"{photo.name}: {error}")
            return False
        unfinished = edit.save(output.with_suffix(".part"))
        unfinished.rename(output)
        print(f"{photo.name}: wrote {output}")
        return True
    print(f"{photo.name}: the server is too busy")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--regions", required=True)
    parser.add_argument("--color", required=True)
    parser.add_argument("--at-once", type=int, default=4, help="no more than the key allows")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    photos = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in SUFFIXES)
    options.folder.mkdir(parents=True, exist_ok=True)
    with EditClient(options.server) as client, ThreadPoolExecutor(options.at_once) as pool:
        edit = partial(
            edit_file,
            client=client,
            folder=options.folder,
            regions=options.regions,
            color=options.color,
        )
        done = list(pool.map(edit, photos))
    print(f"{sum(done)} of {len(done)} photos are in {options.folder}")
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
