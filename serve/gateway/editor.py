"""The browser editor at /editor/: the files of one folder, and portraits to start with."""

import asyncio
import gzip
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.gateway.records import record_of

EDITOR_FOLDER = Path(__file__).resolve().parents[1] / "editor"
SAMPLES = ((11, 0), (3, 2), (23, 3), (7, 6), (41, 4), (11, 2))  # seed and index of each

_PAGE = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",  # licenses
}
# Nothing comes from or goes to elsewhere, and what a photo or an answer says never runs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # kept, but asked for anew: a new version counts at once
    "Vary": "Accept-Encoding",
}
_SAMPLE_SIDE = 512


@dataclass(frozen=True)
class StaticFile:
    """A file in memory.

    Attributes:
        content_type: of the answer's header.
        content, gzipped: the file; the second is None where compression saves nothing.
        tag: changes with the content; it stands for both forms, so it is a weak one.
    """

    content_type: str
    content: bytes
    gzipped: bytes | None
    tag: str


def read_files(folder: Path = EDITOR_FOLDER) -> dict[str, StaticFile]:
    """Read what the page consists of, by path in the folder, with "/" between the parts.

    Files of other types, hidden ones and links are left out: what is not here is not served.
    """
    folder = folder.resolve()
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        is_link = path.resolve() != path  # itself, or a folder on the way to it
        if path.suffix in _TYPES and path.is_file() and not hidden and not is_link:
            files[name.as_posix()] = _static_file(path.read_bytes(), _TYPES[path.suffix])
    return files


def _static_file(content: bytes, content_type: str) -> StaticFile:
    gzipped = gzip.compress(content, 9, mtime=0)
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    return StaticFile(content_type, content, gzipped if len(gzipped) < len(content) else None, tag)


@cache
def sample_portrait(number: int) -> StaticFile:
    """Draw a portrait to try the editor with: a JPEG of 512 x 512 pixels."""
    seed, index = SAMPLES[number]
    photo = generate_portrait(seed=seed, index=index, resolution=_SAMPLE_SIDE).photo
    jpeg = io.BytesIO()
    Image.fromarray(photo).save(jpeg, "JPEG", quality=92)
    return _static_file(jpeg.getvalue(), "image/jpeg")


def editor_router(files: Mapping[str, StaticFile]) -> APIRouter:
    """Return the page, to which / and /editor lead; it holds nothing private, so no key is asked.

    Args:
        files: by path below /editor/.
    """
    router = APIRouter(include_in_schema=False)
    methods = ["GET", "HEAD"]
    drawing = asyncio.Lock()  # one after the other: the first is there soon, none is drawn twice

    @router.api_route("/", methods=methods)
    @router.api_route("/editor", methods=methods)
    async def lead(request: Request) -> Response:
        record_of(request).operation = "editor"
        # Relative, so that it holds behind a proxy and names no host that the client claims.
        return Response(status_code=307, headers={"Location": "editor/"})

    @router.api_route("/editor/samples/{number}.jpg", methods=methods)
    async def sample(request: Request, number: str) -> Response:
        record_of(request).operation = "editor"
        if number not in map(str, range(len(SAMPLES))):
            raise HTTPException(404)
        async with drawing:
            portrait = await asyncio.to_thread(sample_portrait, int(number))
        return _answer(request, portrait)

    @router.api_route("/editor/{name:path}", methods=methods)
    async def file(request: Request, name: str) -> Response:
        record_of(request).operation = "editor"
        found = files.get(name or _PAGE)
        if found is None:
            raise HTTPException(404)
        return _answer(request, found)

    return router


def _answer(request: Request, file: StaticFile) -> Response:
    headers = {**_HEADERS, "ETag": file.tag}
    if file.tag in _listed(request, "if-none-match"):
        return Response(status_code=304, headers=headers)
    content = file.content
    if file.gzipped is not None and "gzip" in _listed(request, "accept-encoding"):
        content = file.gzipped
        headers["Content-Encoding"] = "gzip"
    headers |= {"Content-Type": file.content_type, "Content-Length": str(len(content))}
    return Response(b"" if request.method == "HEAD" else content, headers=headers)


def _listed(request: Request, header: str) -> list[str]:
    return [part.strip() for part in request.headers.get(header, "").split(",")]
