"""A step of an edit as listeners see it: how far it is, and what the model makes of it so far."""

import base64
import io
import json
from dataclasses import dataclass

from PIL import Image

from neural_photo_editor.imaging.compositing import Photo

PREVIEW_CONTENT_TYPE = "application/x-ndjson"
END_LINE = b'{"end": true}\n'

_QUALITY = 80  # of WebP: a preview is looked at for a moment


@dataclass(frozen=True)
class Preview:
    """One step of one edit.

    Attributes:
        step: steps taken, from 1.
        total_steps: steps in all.
        crop: (left, top, right, bottom) of the square in the photo, in photo pixels; it may reach
            beyond the photo.
        width, height: size of the photo in pixels.
        square: what the model makes of the square (of the first variation), uint8, (R, R, 3).
    """

    step: int
    total_steps: int
    crop: tuple[int, int, int, int]
    width: int
    height: int
    square: Photo

    def to_line(self) -> bytes:
        """Return the event as a line of JSON; the square is a WebP file in base64."""
        file = io.BytesIO()
        Image.fromarray(self.square).save(file, "webp", quality=_QUALITY, method=0)
        event = {
            "step": self.step,
            "total_steps": self.total_steps,
            "crop": list(self.crop),
            "width": self.width,
            "height": self.height,
            "preview": base64.b64encode(file.getvalue()).decode("ascii"),
        }
        return json.dumps(event).encode("ascii") + b"\n"
