"""``origin.json`` of a training run: code, data and licenses as they were when it began.

By the time of the export the folder with the shards may hold other data, and the checkout other
code.
"""

import json
from pathlib import Path
from typing import Any

from neural_photo_editor.data.shard_manifest import ShardManifest

ORIGIN_NAME = "origin.json"


def record_origin(
    run_dir: Path, manifest: ShardManifest, *, git_commit: str | None, ckpt_path: str | None
) -> None:
    """Write the part of an artifact's provenance that is known when a training begins.

    Weights that the run continues from bring the licenses of their own data along.

    Args:
        run_dir: the run folder.
        manifest: of the shards that are trained on.
        git_commit: of the training code, if known.
        ckpt_path: checkpoint that the run continues from, in ``checkpoints/`` of its run folder.
    """
    licenses = {*manifest.licenses}
    if ckpt_path is not None:
        earlier = Path(ckpt_path).resolve().parents[1] / ORIGIN_NAME
        licenses |= {*json.loads(earlier.read_text())["licenses"]} if earlier.is_file() else set()
    origin = {
        "git_commit": git_commit,
        "data_name": manifest.name,
        "data_manifest_digest": manifest.digest,
        "licenses": sorted(licenses),
    }
    partial = run_dir / f"{ORIGIN_NAME}.partial"
    partial.write_text(json.dumps(origin, indent=2) + "\n")
    partial.replace(run_dir / ORIGIN_NAME)  # A kill or a full disk leaves no half of it.


def read_origin(run_dir: Path, manifest: ShardManifest) -> dict[str, Any]:
    """Return what :func:`record_origin` wrote.

    Raises:
        ValueError: nothing was written, or the manifest is another one by now.
    """
    file = run_dir / ORIGIN_NAME
    if not file.is_file():
        raise ValueError(
            f"{file} is missing, so it is not known what the run was trained on: continue the run "
            "with ckpt_path=auto and the same shards, which writes it"
        )
    origin: dict[str, Any] = json.loads(file.read_text())
    if origin["data_manifest_digest"] != manifest.digest:
        raise ValueError(
            f"the run was trained on {origin['data_name']} with the manifest "
            f"{origin['data_manifest_digest']}, but the shards' manifest is {manifest.digest} now: "
            "put the former shards back, or train again"
        )
    return origin
