"""Drawn portraits as a source of samples: data with exact labels and a free license."""

from neural_photo_editor.data.sources import Sample, SampleMetadata
from neural_photo_editor.data.synthetic_portraits import generate_portrait


class SyntheticPortraits:
    """Drawn portraits with exact labels: sample i depends on (seed, i) alone."""

    def __init__(self, *, seed: int, count: int, resolution: int) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        self.seed = seed
        self.count = count
        self.resolution = resolution
        self.crop = f"drawn at {resolution} x {resolution} pixels, not cropped"

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"portrait-{index:06d}"

    def name(self, index: int) -> str:
        return self.key(index)

    def split(self, index: int) -> None:  # noqa: ARG002
        return None

    def load(self, index: int) -> Sample:
        portrait = generate_portrait(self.seed, index, resolution=self.resolution)
        metadata = SampleMetadata(
            source=f"synthetic portrait {index} of seed {self.seed}",
            license="CC0-1.0",
            attribution="Neural Photo Editor",
        )
        return Sample(self.key(index), portrait.photo, portrait.labels, metadata)
