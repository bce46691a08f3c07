"""Tiny data sets in the official layouts of the real ones, made of drawn portraits."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.common.regions import REGION_MAP
from neural_photo_editor.data.synthetic_portraits import Portrait, generate_portrait

SIDE = 64  # pixels of the portraits in the fakes of CelebAMask-HQ and FFHQ
SEED = 11

# Photos of CelebA on both sides of the official boundaries between train, val and test.
BOUNDARIES = {162770: "train", 162771: "val", 182637: "val", 182638: "test"}

# Which regions each part of the fake CelebAMask-HQ covers. Parts overlap as the real ones do: skin
# lies under the face's features and neck_l under hair, so the order of painting shows.
PART_REGIONS = {
    "skin": ("skin", "nose", "eye", "brow", "mouth", "lip"),
    "nose": ("nose",),
    "l_eye": ("eye",),
    "r_eye": ("eye",),
    "l_brow": ("brow",),
    "r_brow": ("brow",),
    "l_ear": ("ear", "hair"),
    "r_ear": ("ear", "hair"),
    "mouth": ("mouth", "lip"),
    "u_lip": ("lip",),
    "l_lip": ("lip",),
    "hair": ("hair", "hat"),
    "hat": ("hat",),
    "neck": ("neck",),
}


def portrait(number: int, *, side: int = SIDE) -> Portrait:
    return generate_portrait(SEED, number, resolution=side)


def write_partition(path: Path, numbers: Iterable[int]) -> None:
    """Write list_eval_partition.txt for the given photos of CelebA, by its official boundaries."""
    lines = [f"{n:06d}.jpg {0 if n <= 162770 else 1 if n <= 182637 else 2}\n" for n in numbers]
    path.write_text("".join(lines))


def write_image_folder(folder: Path, *, count: int, labels: bool) -> None:
    """Write ``photos/*.png`` and, if wanted, ``labels/*.png``, of 32 pixels."""
    for number in range(count):
        drawn = portrait(number, side=32)
        _save(folder / "photos" / f"face {number}.png", drawn.photo)
        if labels:
            _save(folder / "labels" / f"face {number}.png", drawn.labels)


def write_celeba(folder: Path, numbers: Sequence[int]) -> None:
    """Write ``img_align_celeba/*.jpg`` of 178 x 218 pixels and the partition."""
    for number in numbers:
        photo = Image.fromarray(portrait(number % 100).photo).resize((178, 218))
        _save(folder / "img_align_celeba" / f"{number:06d}.jpg", np.asarray(photo))
    write_partition(folder / "list_eval_partition.txt", numbers)


def write_mapping(folder: Path, originals: dict[int, int]) -> None:
    """Write the mapping file for {number in CelebAMask-HQ: number of the photo in CelebA}."""
    lines = ["      idx    orig_idx    orig_file\n"]
    lines += [f"{n:9d} {o - 1:11d}   {o:06d}.jpg\n" for n, o in sorted(originals.items())]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text("".join(lines))


def write_celebamask_hq(folder: Path, originals: dict[int, int]) -> None:
    """Write photos, parts, mapping and partition for {number: number of the photo in CelebA}."""
    for number in originals:
        drawn = portrait(number)
        _save(folder / "CelebA-HQ-img" / f"{number}.jpg", drawn.photo)
        for part, regions in PART_REGIONS.items():
            covered = np.isin(drawn.labels, [REGION_MAP[region] for region in regions])
            if part.startswith(("l_", "r_")) and part != "l_lip":
                covered = _keep_half(covered, right=part.startswith("r_"))
            if covered.any():
                write_part(folder, number, part, covered)
    write_mapping(folder, originals)
    write_partition(folder / "list_eval_partition.txt", originals.values())


def write_part(folder: Path, number: int, part: str, covered: NDArray[np.bool_]) -> None:
    """Write one part's mask, (S, S), as the data set has it: 512 x 512 pixels, RGB, 0 or 255."""
    pixels = np.dstack([covered.astype(np.uint8) * 255] * 3)
    scale = 512 // len(covered)
    name = f"{number:05d}_{part}.png"
    path = folder / "CelebAMask-HQ-mask-anno" / str(number // 2000) / name
    _save(path, pixels.repeat(scale, 0).repeat(scale, 1))


def write_ffhq(folder: Path, numbers: Sequence[int]) -> None:
    """Write 64-pixel images, 32-pixel thumbnails and the json for the given photos."""
    addresses = [
        ("Attribution License", "https://creativecommons.org/licenses/by/2.0/"),
        ("Attribution-NonCommercial License", "https://creativecommons.org/licenses/by-nc/2.0/"),
        ("Public Domain Mark", "https://creativecommons.org/publicdomain/mark/1.0/"),
        ("Public Domain Dedication (CC0)", "https://creativecommons.org/publicdomain/zero/1.0/"),
        ("United States Government Work", "http://www.usa.gov/copyright.shtml"),
    ]
    entries = {}
    for place, number in enumerate(numbers):
        name, address = addresses[place % len(addresses)]
        entries[str(number)] = {
            "category": "training" if number < 60000 else "validation",
            "metadata": {
                "photo_url": f"https://photos.example/{number}",
                "photo_title": f"DSC{number}.JPG",
                "author": f"Photographer {number} é",
                "country": "",
                "license": name,
                "license_url": address,
            },
            "image": _write_ffhq_file(folder, "images1024x1024", number, side=64),
            "thumbnail": _write_ffhq_file(folder, "thumbnails128x128", number, side=32),
            "in_the_wild": {"face_landmarks": [[0.5, 1.5]] * 68, "face_quad": [0, 0]},
        }
    (folder / "ffhq-dataset-v2.json").write_text(json.dumps(entries))


def _write_ffhq_file(folder: Path, edition: str, number: int, *, side: int) -> dict[str, Any]:
    path = Path(edition) / f"{number // 1000 * 1000:05d}" / f"{number:05d}.png"
    _save(folder / path, portrait(number % 100, side=side).photo)
    data = (folder / path).read_bytes()
    return {
        "file_path": path.as_posix(),
        "file_size": len(data),
        "file_md5": hashlib.md5(data).hexdigest(),
        "pixel_size": [side, side],
        "face_landmarks": [[0.5, 1.5]] * 68,
    }


def _keep_half(covered: NDArray[np.bool_], *, right: bool) -> NDArray[np.bool_]:
    half = covered.copy()
    middle = covered.shape[1] // 2
    half[:, slice(None, middle) if right else slice(middle, None)] = False
    return half


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).save(buffer, "JPEG" if options else "PNG", **options)
    path.write_bytes(buffer.getvalue())
