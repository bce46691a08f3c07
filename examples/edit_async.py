"""Try several colors at once: the server computes the edits together, in one batch.

    export NPE_API_KEY=npe_...
    python examples/edit_async.py portrait.png hair "#8a3ffc" "#0f62fe" "#198038"

Writes edited-1.png, edited-2.png, ...
"""

import argparse
import asyncio
import sys
from pathlib import Path

from neural_photo_editor.api import AsyncEditClient, EditError


async def recolor(
    client: AsyncEditClient, photo: Path, *, region: str, color: str, output: Path
) -> None:
    edit = await client.edit(photo, regions=[region], color=color, seed=7, format="png")
    edit.save(output)
    print(f"{color}: wrote {output}, waited {edit.metadata.timings_ms.get('queue', 0):.0f} ms")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("region")
    parser.add_argument("colors", nargs="+")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    # When one edit fails, the group cancels the others, and the server gives them up.
    async with AsyncEditClient(options.server) as client, asyncio.TaskGroup() as group:
        for number, color in enumerate(options.colors, start=1):
            output = Path(f"edited-{number}.png")
            group.create_task(
                recolor(client, options.photo, region=options.region, color=color, output=output)
            )


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except* EditError as errors:
        sys.exit("\n".join(str(error) for error in errors.exceptions))
