"""Bodies to requests: a multipart form or a JSON document, by the rules of the wire."""

import json
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from neural_photo_editor.api.envelope import FILE_FIELDS, parse_row
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits, check_image_header
from neural_photo_editor.api.schema import Request

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 64
MAX_TEXT_BYTES = 4096  # of one part that is no file
MAX_JSON_MARKS = 4096  # brackets, braces and commas: a request has about 50, base64 none


def parse_request(
    operation: str, body: bytes, *, content_type: str, limits: ImageLimits
) -> Request:
    """Turn a body into a request whose images' headers have been checked.

    Takes tens of ms for large bodies: for a thread.

    Args:
        operation: what the path says; the body may not say it.
        content_type: the request's header, a form's or JSON.

    Raises:
        RequestError: 400 malformed, 413 an image too large, 415 another file type, 422 a field.
    """
    is_form = content_type.lower().lstrip().startswith("multipart/")
    fields = _read_form(body, content_type) if is_form else _read_json(body)
    if "operation" in fields:
        raise RequestError(
            422, "unknown field", field="operation", remedy="leave it out: the path says it"
        )
    named = {**fields, "operation": operation}
    request = parse_row(named if is_form else {"body": named})
    check_images(request, limits)
    return request


def check_images(request: Request, limits: ImageLimits) -> None:
    """Refuse images that their headers give away; raises RequestError 413, 415 or 422."""
    for name in FILE_FIELDS:
        data = getattr(request, name, None)
        if data is not None:
            check_image_header(data, field=name, limits=limits)


def check_json_size(body: bytes) -> None:
    """Refuse documents of many values, which parsers turn into far more memory and time.

    Raises:
        RequestError: 400 too many values.
    """
    if sum(map(body.count, (b"[", b"{", b","))) > MAX_JSON_MARKS:
        raise RequestError(
            400,
            "the JSON document has too many values",
            field=None,
            remedy=f"send at most {MAX_JSON_MARKS} brackets, braces and commas; files are base64",
        )


def _read_json(body: bytes) -> dict[str, Any]:
    check_json_size(body)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(
            400, "the body is not valid JSON", field=None, remedy="send one JSON object, UTF-8"
        ) from None
    if not isinstance(document, dict):
        raise RequestError(
            400, "the JSON body is not an object", field=None, remedy="send one JSON object"
        )
    return document


def _read_form(body: bytes, content_type: str) -> dict[str, bytes]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _malformed("its content type has no boundary")
    reader = _FormReader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise _malformed("its parts cannot be told apart") from None
    if not reader.ended:
        raise _malformed("its last part has no end")
    return reader.fields


class _FormReader:
    """Collects the parts of a form; keeps no file names."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.ended = False
        self._name: str | None = None
        self._header = bytearray()
        self._value = bytearray()
        self._data = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        if len(self.fields) >= MAX_PARTS:
            raise RequestError(
                400, f"the form has more than {MAX_PARTS} parts", field=None, remedy="send fewer"
            )
        self._name = None
        self._data = bytearray()

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            name = parse_options_header(bytes(self._value))[1].get(b"name")
            self._name = name.decode("utf-8", "replace") if name is not None else None
        self._header, self._value = bytearray(), bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]
        if self._name not in FILE_FIELDS and len(self._data) > MAX_TEXT_BYTES:
            name = (self._name or "")[:40]
            raise RequestError(
                422, "the text is too long", field=name, remedy=f"send at most {MAX_TEXT_BYTES} B"
            )

    def _end_part(self) -> None:
        if self._name is None:
            raise _malformed("a part has no name")
        if self._name in self.fields:
            raise RequestError(
                422, "the field is sent twice", field=self._name[:40], remedy="send it once"
            )
        self.fields[self._name] = bytes(self._data)

    def _end(self) -> None:
        self.ended = True


def _malformed(reason: str) -> RequestError:
    return RequestError(
        400,
        f"the form is malformed: {reason}",
        field=None,
        remedy="send multipart/form-data as RFC 7578 has it",
    )
