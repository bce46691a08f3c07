"""Building requests from named values, and saying in plain words what is wrong with them."""

from typing import Any

from pydantic import ValidationError

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    MAX_RESAMPLES,
    MAX_SEED,
    MAX_STEPS,
    MAX_VARIATIONS,
    EditRequest,
    RequestT,
)


def validate_request(model: type[RequestT], fields: dict[str, Any]) -> RequestT:
    """Build a request from named values.

    Raises:
        RequestError: 422, naming the first field that is wrong and what to send instead.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        raise _to_request_error(model, error) from None


def _to_request_error(model: type[RequestT], error: ValidationError) -> RequestError:
    first = error.errors(include_url=False, include_input=False)[0]
    context: dict[str, Any] = first.get("ctx", {})
    field = str(first["loc"][0])[:40] if first["loc"] else None
    detail = str(first["msg"])
    known = ", ".join(model.model_fields)
    match first["type"]:
        case "request":
            remedy = str(context["remedy"])
            field = field or _field_at_fault(detail)
        case "extra_forbidden":
            detail, remedy = "unknown field", f"choose from operation, {known}"
        case "missing":
            detail, remedy = "required field is missing", f"add the field {field}"
        case "string_pattern_mismatch":
            detail, remedy = "not a color", "write six hexadecimal digits, such as #aa3311"
        case "literal_error":
            remedy = f"choose {context['expected']}"
        case "too_short" | "bytes_too_short":
            detail, remedy = "the file is empty", "send the bytes of a JPEG, PNG or WebP file"
        case _:
            remedy = _range_remedy(field)
    return RequestError(422, detail, field=field, remedy=remedy)


def _field_at_fault(message: str) -> str:
    """Name the field of a rule about several fields: its message starts with it, or mask."""
    first_word = message.split(maxsplit=1)[0]
    return first_word if first_word in EditRequest.model_fields else "mask"


def _range_remedy(field: str | None) -> str:
    remedies = {
        "strength": "send a number from 0 to 1",
        "timestep": "send a whole number of at least 1",
        "steps": f"send a whole number from 1 to {MAX_STEPS}",
        "resamples": f"send a whole number from 1 to {MAX_RESAMPLES}",
        "seed": f"send a whole number from 0 to {MAX_SEED}",
        "variations": f"send a whole number from 1 to {MAX_VARIATIONS}",
        "regions": "send a list of region names",
        "color": "send a text such as #aa3311",
        "receipt": "send true or false",
    }
    return remedies.get(field or "", "send an image file (in JSON: its base64 text)")
