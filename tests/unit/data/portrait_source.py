"""A source of drawn portraits that can stop on the way."""

from neural_photo_editor.data.shard_manifest import Split
from neural_photo_editor.data.sources import Sample, SampleMetadata
from neural_photo_editor.data.synthetic_portraits import generate_portrait


class Photos:
    """Distinct portraits. Private, and so no settings: where to stop, and what was loaded."""

    resolution = 32
    crop = "drawn"

    def __init__(self, count: int = 12, *, stop_at: int | None = None) -> None:
        self.count = count
        self._stop_at = stop_at
        self._loaded: list[int] = []

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"p{index:02d}"

    def name(self, index: int) -> str:
        return f"album/{index}.jpg"

    def split(self, index: int) -> Split | None:
        return None

    def load(self, index: int) -> Sample:
        if index == self._stop_at:
            raise KeyboardInterrupt
        self._loaded.append(index)
        portrait = generate_portrait(0, index, resolution=32)
        metadata = SampleMetadata(self.name(index), "CC0-1.0", "nobody")
        return Sample(self.key(index), portrait.photo, portrait.labels, metadata)
