"""Turn photos into shards: ``python pipelines/prepare_shards.py source=synthetic out_dir=DIR``."""

import os
import tempfile
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.data.contact_sheet import write_contact_sheet
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_parts import write_part
from neural_photo_editor.data.shard_pool import WorkerKilledError
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.storage import ShardStorage

_log = get_logger(__name__)

SHEET_NAME = "contact_sheet.png"


def prepare_shards(cfg: DictConfig) -> ShardManifest | None:
    """Write the source's shards, their manifest and a contact sheet to ``cfg.out_dir``.

    None: this was one of several parts, and not the last one.
    """
    storage = ShardStorage(cfg.out_dir)
    settings: dict[str, Any] = {
        "out_dir": cfg.out_dir,
        "name": cfg.name or Path(storage.root).resolve().name,
        "samples_per_shard": cfg.samples_per_shard,
        "val_fraction": cfg.val_fraction,
        "image_format": cfg.image_format,
        "jpeg_quality": cfg.jpeg_quality,
        "num_workers": cfg.num_workers or len(os.sched_getaffinity(0)),
    }
    source = instantiate(cfg.source)
    manifest: ShardManifest | None
    if (cfg.part, cfg.parts) == (0, 1):
        manifest = write_shards(source, overwrite=cfg.overwrite, resume=cfg.resume, **settings)
    elif cfg.overwrite or not cfg.resume:
        raise ValueError("with parts, no data set is replaced: empty out_dir or choose another")
    else:
        manifest = write_part(source, part=cfg.part, parts=cfg.parts, **settings)
    if manifest is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        sheet = write_contact_sheet(cfg.out_dir, path=Path(folder) / SHEET_NAME)
        storage.write(SHEET_NAME, sheet)
    _log.info("have a look: %s", storage.url(SHEET_NAME))
    return manifest


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare_shards")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        prepare_shards(cfg)
    except (ValueError, OSError, WorkerKilledError) as error:
        raise SystemExit(f"prepare_shards: {error}") from error
    except KeyboardInterrupt:
        _log.warning("stopped; the same command goes on with the shards that are missing")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
