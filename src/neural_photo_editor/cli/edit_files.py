"""Files that ``npe edit`` and ``npe replay`` write: images, previews, receipts, recipes."""

import argparse
import json
from pathlib import Path

from neural_photo_editor.api.image_opening import open_image
from neural_photo_editor.api.recipe import MAX_NAME_CHARACTERS, Recipe
from neural_photo_editor.api.schema import EditRequest, EditResult

_SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}
_FORMATS = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp"}


def format_of(path: Path | None) -> str | None:
    """Return the file type that a file name asks for, if it does."""
    return None if path is None else _FORMATS.get(path.suffix.lower().removeprefix("."))


def picture_path(text: str) -> Path:
    """Read an option that names a picture; raises ArgumentTypeError for another file type."""
    path = Path(text)
    if format_of(path) is None:
        raise argparse.ArgumentTypeError(f"{text}: name a .png, .jpg or .webp file")
    return path


def check_folders(*files: Path | None) -> None:
    """Raise FileNotFoundError, before an edit is made for nothing, where a file cannot go."""
    for path in files:
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {path.parent}")


def write_images(result: EditResult, output: Path | None, *, source: Path) -> list[Path]:
    """Write what came back, by default beside what it was made from, and return where."""
    suffix = _SUFFIXES.get(result.metadata.format, "png")
    output = output or source.with_name(f"{source.stem}.edited.{suffix}")
    return list(result.save_all(output)) if len(result.images) > 1 else [result.save(output)]


def write_receipts(result: EditResult, path: Path) -> list[Path]:
    """Write the receipt of each image, several as out-1.json, out-2.json, ..."""
    receipts, paths = result.receipts, [path]
    if len(receipts) > 1:
        numbers = range(1, len(receipts) + 1)
        paths = [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in numbers]
    for target, receipt in zip(paths, receipts, strict=True):
        target.write_text(json.dumps(receipt, indent=2) + "\n", encoding="ascii")
    return paths


def write_recipe(request: EditRequest, result: EditResult, path: Path, *, name: str) -> list[Path]:
    """Record an edit, with the seed that it came to have."""
    name = "".join(c for c in name if c.isprintable())[:MAX_NAME_CHARACTERS] or "edit"
    # What is recorded is the edit: receipts are asked for each time.
    recorded = request.model_copy(update={"receipt": False})
    recipe = Recipe.from_request(recorded, name=name, seed=result.metadata.seed)
    path.write_bytes(recipe.to_bytes())
    return [path]


def write_preview(preview: bytes, path: Path) -> None:
    """Replace a picture by a newer one, in one step, so that whoever looks sees a whole file."""
    new = path.with_name(f".{path.name}.new")
    with open_image(preview, field="preview") as image:
        picture = image.convert("RGB")
    picture.save(new, format_of(path))
    new.replace(path)
