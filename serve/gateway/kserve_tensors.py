"""Open Inference Protocol v2: its JSON tensors to requests, and replies to its tensors.

Files are BYTES in base64, text is BYTES as it is, and one tensor holds one value, except that
``regions`` holds any number. What is no file may be a parameter of the request instead.
"""

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neural_photo_editor.api.envelope import FILE_FIELDS, Reply, parse_row
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits
from neural_photo_editor.api.schema import Request
from serve.gateway.forms import check_images, check_json_size

MODEL = "neural_photo_editor"

# The first is the one that the model's metadata names.
_TEXT, _FLOAT, _INTEGER, _TRUTH = ("BYTES",), ("FP32", "FP64"), ("INT64", "INT32"), ("BOOL",)
INPUTS: dict[str, tuple[str, ...]] = {
    "operation": _TEXT,
    **dict.fromkeys(FILE_FIELDS, _TEXT),
    "regions": _TEXT,
    "color": _TEXT,
    "strength": _FLOAT,
    **dict.fromkeys(("timestep", "steps", "resamples"), _INTEGER),
    "sampler": _TEXT,
    **dict.fromkeys(("seed", "variations"), _INTEGER),
    **dict.fromkeys(("detail", "blend", "format"), _TEXT),
    "receipt": _TRUTH,
}
SCALARS = tuple(name for name in INPUTS if name not in FILE_FIELDS)
OUTPUTS = ("image", "metadata", "receipt")
_PYTHON_TYPES: dict[tuple[str, ...], tuple[type, ...]] = {
    _TEXT: (str,),
    _FLOAT: (float, int),
    _INTEGER: (int,),
    _TRUTH: (bool,),
}
_MAX_ELEMENTS = 64
_BASE64 = {"content_type": "base64"}

Name = Annotated[str, Field(max_length=64)]
InputName = Annotated[Name, Field(json_schema_extra={"enum": [*INPUTS]})]
OutputName = Annotated[Name, Field(json_schema_extra={"enum": [*OUTPUTS]})]
Datatype = Annotated[
    str,
    Field(json_schema_extra={"enum": sorted({one for many in INPUTS.values() for one in many})}),
]
Parameters = dict[Name, str | int | float | bool]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class InputTensor(_Part):
    """One input."""

    name: InputName
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=4)]
    """``[1]``; of ``regions`` their number."""
    datatype: Datatype
    """BYTES, FP32, FP64, INT32, INT64 or BOOL, as the model's metadata has it."""
    parameters: Parameters = {}
    """Nothing, or of a file ``content_type``: ``base64``."""
    data: list[Any]
    """The elements, row by row or nested: text, numbers, truth values; of a file its bytes in
    base64."""


class RequestedOutput(_Part):
    """One output that is wanted."""

    name: OutputName
    parameters: Parameters = {}


class InferRequest(_Part):
    """Inputs of one request. Without ``operation`` it is an edit."""

    id: Annotated[str, Field(max_length=256)] | None = None
    """Comes back with the answer."""
    parameters: Annotated[
        Parameters, Field(json_schema_extra={"propertyNames": {"enum": [*SCALARS]}})
    ] = {}
    """Values that are no files may stand here instead: ``{"seed": 7, "regions": "hair,hat"}``."""
    inputs: Annotated[list[InputTensor], Field(max_length=_MAX_ELEMENTS)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=_MAX_ELEMENTS)] = []
    """Those that are wanted; left out, all."""


class OutputTensor(BaseModel):
    """One output: ``image`` (files in base64), ``metadata`` and ``receipt`` (JSON documents)."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, str] = {}
    data: list[str]


class InferResponse(BaseModel):
    """What the model made."""

    model_name: str
    model_version: str
    """Digest of the bundle that answered."""
    id: str | None = None
    outputs: list[OutputTensor]


def read_infer_request(body: bytes, *, limits: ImageLimits) -> tuple[Request, InferRequest]:
    """Turn a body into a request whose images' headers have been checked.

    Raises:
        RequestError: 400 not as the protocol has it, an unknown input or output, another datatype
            or shape; 413, 415 or 422 as for the operations themselves.
    """
    check_json_size(body)
    try:
        infer = InferRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:64] for part in first["loc"]) or None
        raise _protocol_error(str(first["msg"]), where, "see /docs for the protocol") from None
    for output in infer.outputs:
        if output.name not in OUTPUTS:
            raise _protocol_error(
                "the model has no such output", output.name, f"choose from {', '.join(OUTPUTS)}"
            )
    fields: dict[str, Any] = {}
    for name, value in [*_parameters(infer), *_tensors(infer)]:
        if name in fields:
            raise _protocol_error("the input is given twice", name, "give it once")
        fields[name] = value
    named = {"operation": "edit", **fields}
    # A label map or an enlarged photo has no other form to ask for.
    request = parse_row({"body": {**named, "response": "json"}})
    check_images(request, limits)
    return request, infer


def write_infer_response(reply: Reply, infer: InferRequest) -> bytes:
    """Turn a worker's JSON document into the protocol's."""
    document = json.loads(reply.body)
    images = document["images"] if "images" in document else [document["image"]]
    receipts = document["receipts"] if "receipts" in document else [document.get("receipt")]
    outputs = [
        _output("image", images, _BASE64),
        _output("metadata", [json.dumps(document["metadata"])], {}),
    ]
    if receipts != [None]:
        outputs.append(_output("receipt", [json.dumps(receipt) for receipt in receipts], {}))
    wanted = {output.name for output in infer.outputs} or set(OUTPUTS)
    response = InferResponse(
        model_name=MODEL,
        model_version=str(document["metadata"]["bundle_digest"]),
        id=infer.id,
        outputs=[output for output in outputs if output.name in wanted],
    )
    return response.model_dump_json(exclude_none=True).encode()


def _parameters(infer: InferRequest) -> Iterator[tuple[str, Any]]:
    for name, value in infer.parameters.items():
        if name not in SCALARS:
            remedy = f"choose from {', '.join(SCALARS)}"
            raise _protocol_error("there is no such parameter", name, remedy)
        if not _has_type(value, INPUTS[name]):
            raise _wrong_type(name, INPUTS[name])
        if name == "regions":
            yield name, [part.strip() for part in str(value).split(",") if part.strip()]
        else:
            yield name, value


def _tensors(infer: InferRequest) -> Iterator[tuple[str, Any]]:
    for tensor in infer.inputs:
        name = tensor.name
        if name not in INPUTS:
            raise _protocol_error(
                "the model has no such input", name, f"choose from {', '.join(INPUTS)}"
            )
        if tensor.datatype not in INPUTS[name]:
            raise _protocol_error(
                f"the datatype is {tensor.datatype[:16]}", name, f"send {' or '.join(INPUTS[name])}"
            )
        if tensor.parameters not in ({}, _BASE64 if name in FILE_FIELDS else {}):
            remedy = "send none; files are base64 in data, and binary tensors are not taken"
            raise _protocol_error("the tensor has unknown parameters", name, remedy)
        yield name, _value(tensor)


def _value(tensor: InputTensor) -> Any:
    """Return a tensor's one value, or the list of regions."""
    name = tensor.name
    elements = list(_flat(tensor.data))
    if len(elements) > _MAX_ELEMENTS or math.prod(tensor.shape) != len(elements):
        raise _protocol_error(
            f"the shape {tensor.shape} is not that of data", name, "send their number as the shape"
        )
    if not all(_has_type(element, INPUTS[name]) for element in elements):
        raise _wrong_type(name, INPUTS[name])
    if name == "regions":
        return elements
    if len(elements) != 1:
        raise _protocol_error(f"the shape is {tensor.shape}", name, "send one value, shape [1]")
    return elements[0]


def _flat(data: list[Any], depth: int = 0) -> Iterator[Any]:
    for element in data:
        if isinstance(element, list) and depth < 3:
            yield from _flat(element, depth + 1)
        else:
            yield element


def _has_type(value: object, datatypes: tuple[str, ...]) -> bool:
    is_truth = isinstance(value, bool)
    return isinstance(value, _PYTHON_TYPES[datatypes]) and is_truth == (datatypes == _TRUTH)


def _output(name: str, data: list[str], parameters: dict[str, str]) -> OutputTensor:
    return OutputTensor(
        name=name, datatype="BYTES", shape=[len(data)], parameters=parameters, data=data
    )


def _wrong_type(name: str, datatypes: tuple[str, ...]) -> RequestError:
    kinds = {_TEXT: "text", _FLOAT: "a number", _INTEGER: "a whole number", _TRUTH: "true or false"}
    return _protocol_error("the value has another type", name, f"send {kinds[datatypes]}")


def _protocol_error(detail: str, field: str | None, remedy: str) -> RequestError:
    return RequestError(400, detail, field=field, remedy=remedy)
