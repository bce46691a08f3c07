from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EditRequest(_message.Message):
    __slots__ = ("photo", "mask", "regions", "strokes", "color", "strength", "strength_map", "timestep", "steps", "resamples", "sampler", "seed", "variations", "detail", "blend", "format", "receipt")
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    STROKES_FIELD_NUMBER: _ClassVar[int]
    COLOR_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_MAP_FIELD_NUMBER: _ClassVar[int]
    TIMESTEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RESAMPLES_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    VARIATIONS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BLEND_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    photo: bytes
    mask: bytes
    regions: _containers.RepeatedScalarFieldContainer[str]
    strokes: bytes
    color: str
    strength: float
    strength_map: bytes
    timestep: int
    steps: int
    resamples: int
    sampler: str
    seed: int
    variations: int
    detail: str
    blend: str
    format: str
    receipt: bool
    def __init__(self, photo: _Optional[bytes] = ..., mask: _Optional[bytes] = ..., regions: _Optional[_Iterable[str]] = ..., strokes: _Optional[bytes] = ..., color: _Optional[str] = ..., strength: _Optional[float] = ..., strength_map: _Optional[bytes] = ..., timestep: _Optional[int] = ..., steps: _Optional[int] = ..., resamples: _Optional[int] = ..., sampler: _Optional[str] = ..., seed: _Optional[int] = ..., variations: _Optional[int] = ..., detail: _Optional[str] = ..., blend: _Optional[str] = ..., format: _Optional[str] = ..., receipt: _Optional[bool] = ...) -> None: ...

class EditResponse(_message.Message):
    __slots__ = ("images", "metadata_json", "receipts_json")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_JSON_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    metadata_json: str
    receipts_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, images: _Optional[_Iterable[bytes]] = ..., metadata_json: _Optional[str] = ..., receipts_json: _Optional[_Iterable[str]] = ...) -> None: ...

class EditEvent(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: EditResponse
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[EditResponse, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "total_steps", "crop", "width", "height", "preview")
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    step: int
    total_steps: int
    crop: _containers.RepeatedScalarFieldContainer[int]
    width: int
    height: int
    preview: bytes
    def __init__(self, step: _Optional[int] = ..., total_steps: _Optional[int] = ..., crop: _Optional[_Iterable[int]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., preview: _Optional[bytes] = ...) -> None: ...

class SegmentRequest(_message.Message):
    __slots__ = ("photo",)
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    photo: bytes
    def __init__(self, photo: _Optional[bytes] = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("image", "metadata_json")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    metadata_json: str
    def __init__(self, image: _Optional[bytes] = ..., metadata_json: _Optional[str] = ...) -> None: ...

class UpscaleRequest(_message.Message):
    __slots__ = ("photo",)
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    photo: bytes
    def __init__(self, photo: _Optional[bytes] = ...) -> None: ...

class UpscaleResponse(_message.Message):
    __slots__ = ("image", "metadata_json")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    metadata_json: str
    def __init__(self, image: _Optional[bytes] = ..., metadata_json: _Optional[str] = ...) -> None: ...
