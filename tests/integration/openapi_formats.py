"""What schemathesis is told of our OpenAPI document: files are real images besides noise."""

import base64
import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _png(mode: str, value: int) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (64, 64), value).save(file, "PNG")
    return file.getvalue()


_files = st.sampled_from([_png("RGB", 0x40A0C0), _png("L", 255)]) | st.binary(
    min_size=1, max_size=64
)

schemathesis.openapi.format("binary", _files)
schemathesis.openapi.format("byte", _files.map(lambda data: base64.b64encode(data).decode()))


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Leave out forms with an empty list: it leaves no trace in what is sent."""
    is_form = case.media_type == "multipart/form-data" and isinstance(case.body, dict)
    return not (is_form and [] in case.body.values())
