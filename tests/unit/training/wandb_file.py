"""Reading W&B's offline runs."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def wandb_records(file: Path) -> Iterator[Any]:
    """Read a .wandb file: LevelDB's log format after a header of 7 bytes, protobuf inside."""
    from wandb.proto import wandb_internal_pb2

    data, position, partial = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # No record header spans two blocks.
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        partial += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # Whole, or the last part.
            record = wandb_internal_pb2.Record()
            record.ParseFromString(partial)
            yield record
            partial = b""


def wandb_history(file: Path) -> list[dict[str, Any]]:
    """Return the logged rows of a .wandb file."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
        for record in wandb_records(file)
        if (items := record.history.item)
    ]
