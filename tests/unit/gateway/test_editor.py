"""The editor's files: which are served, with which headers, and what is not."""

import asyncio
import gzip
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image

from serve.gateway import editor
from serve.gateway.editor import SAMPLES, read_files
from tests.unit.gateway.small_gateway import SmallGateway, small_gateway

PAGE = "<!doctype html><title>a page</title>" + "<p>the same again</p>" * 100
Case = Callable[[httpx.AsyncClient, SmallGateway], Awaitable[None]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "editor"
    (folder / "ui").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "ui" / "panel.js").write_text("export const a = 1\n")
    (folder / "style.css").write_text("")
    (tmp_path / "secret.js").write_text("// outside")
    return folder


def run(folder: Path, case: Case, monkeypatch: pytest.MonkeyPatch, **settings: bool) -> None:
    async def with_gateway() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("serve.gateway.app.read_files", lambda: read_files(folder))
            async with small_gateway(folder.parent, **settings) as gateway:
                await case(gateway.client, gateway)

    asyncio.run(with_gateway())


def test_only_files_of_listed_types_inside_the_folder_are_served(folder: Path) -> None:
    served = {"index.html", "ui/panel.js", "style.css"}
    for name in (".hidden.js", "notes.md", "page.py", "index.html~", "settings.yaml", "x.JS"):
        (folder / name).write_text("not for others")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.txt").write_text("not for others")
    (folder / "link.js").symlink_to(folder.parent / "secret.js")
    (folder / "linked").symlink_to(folder.parent)
    assert set(read_files(folder)) == served
    (folder / "secret.js").write_text("inside now")  # what stands between them is the place alone
    assert set(read_files(folder)) == served | {"secret.js"}


def test_there_may_be_no_editor(tmp_path: Path) -> None:
    assert read_files(tmp_path / "none") == {}


def test_the_page_needs_no_key_and_says_what_it_may_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        page = await client.get("/editor/")
        assert (page.status_code, page.text) == (200, PAGE)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["x-content-type-options"] == "nosniff"
        policy = dict(
            part.split(" ", 1) for part in page.headers["content-security-policy"].split("; ")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        assert "x-npe-request-id" in page.headers

    run(folder, case, monkeypatch)


def test_each_file_has_its_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        for name, kind in (("ui/panel.js", "text/javascript"), ("style.css", "text/css")):
            reply = await client.get(f"/editor/{name}")
            assert reply.headers["content-type"] == f"{kind}; charset=utf-8"
            assert reply.content == (folder / name).read_bytes()

    run(folder, case, monkeypatch)


@pytest.mark.parametrize(
    "path",
    [
        "/editor/../secret.js", "/editor/%2e%2e/secret.js", "/editor/ui/..%2f..%2fsecret.js",
        "/editor/..%5csecret.js", "/editor//index.html", "/editor/ui", "/editor/ui/",
        "/editor/INDEX.html", "/editor/index.html%00.js", "/editor/none.js",
        "/editor/samples/6.jpg", "/editor/samples/-1.jpg", "/editor/samples/%D9%A1.jpg",
        "/editor/samples/00.jpg", "/secret.js",
    ],
)  # fmt: skip
def test_nothing_else_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async def case(_: httpx.AsyncClient, gateway: SmallGateway) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())  # as it stands: clients resolve dots
        reply = await reader.read()
        writer.close()
        assert reply.startswith(b"HTTP/1.1 404 ")
        assert b"default-src 'none'; frame-ancestors 'none'" in reply
        assert b"outside" not in reply

    run(folder, case, monkeypatch, listen=True)


def test_what_compresses_is_sent_compressed_to_those_who_ask(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        for accepted in ("gzip, deflate, br, zstd", "br,gzip"):
            request = client.stream("GET", "/editor/", headers={"Accept-Encoding": accepted})
            async with request as reply:
                sent = b"".join([part async for part in reply.aiter_raw()])
            assert reply.headers["content-encoding"] == "gzip"
            assert reply.headers["vary"] == "Accept-Encoding"
            assert len(sent) == int(reply.headers["content-length"]) < len(PAGE) / 4
            assert gzip.decompress(sent).decode() == PAGE
        for accepted in ("identity", "gzip;q=0", "br"):
            plain = await client.get("/editor/", headers={"Accept-Encoding": accepted})
            assert "content-encoding" not in plain.headers
            assert plain.headers["vary"] == "Accept-Encoding"
            assert plain.text == PAGE
        small = await client.get("/editor/style.css", headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in small.headers

    run(folder, case, monkeypatch)


def test_what_has_not_changed_is_not_sent_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = []

    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        first = await client.get("/editor/")
        assert first.headers["cache-control"] == "no-cache"
        tags.append(first.headers["etag"])
        known = {"If-None-Match": f'"other", {tags[0]}'}
        again = await client.get("/editor/", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tags[0]
        assert "content-type" not in again.headers

    async def changed(client: httpx.AsyncClient, _: SmallGateway) -> None:
        reply = await client.get("/editor/", headers={"If-None-Match": tags[0]})
        assert (reply.status_code, reply.text) == (200, f"{PAGE} new")
        assert reply.headers["etag"] != tags[0]

    run(folder, case, monkeypatch)
    (folder / "index.html").write_text(f"{PAGE} new")
    run(folder, changed, monkeypatch)


def test_the_root_leads_to_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        for path in ("/", "/editor"):
            reply = await client.get(path, headers={"Host": "evil.example"})
            assert (reply.status_code, reply.headers["location"]) == (307, "editor/")

    run(folder, case, monkeypatch)


def test_heads_and_other_methods(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        plain = {"Accept-Encoding": "identity"}
        head = await client.head("/editor/", headers=plain)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(PAGE)
        posted = await client.post("/editor/", content=b"x")
        assert posted.status_code == 405
        assert posted.headers["content-type"] == "application/problem+json"

    run(folder, case, monkeypatch)


def test_sample_portraits_are_drawn_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = editor.generate_portrait

    def small(*, seed: int, index: int, resolution: int) -> object:
        drawn.append((seed, index))
        return draw(seed=seed, index=index, resolution=64)

    monkeypatch.setattr("serve.gateway.editor.generate_portrait", small)
    editor.sample_portrait.cache_clear()

    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        last = f"/editor/samples/{len(SAMPLES) - 1}.jpg"
        paths = ("/editor/samples/0.jpg", last, last)
        replies = await asyncio.gather(*(client.get(path) for path in paths))
        assert len({reply.content for reply in replies}) == 2
        for reply in replies:
            assert reply.headers["content-type"] == "image/jpeg"
            assert Image.open(io.BytesIO(reply.content)).size == (64, 64)

    run(folder, case, monkeypatch)
    editor.sample_portrait.cache_clear()
    assert drawn == [SAMPLES[0], SAMPLES[-1]]


def test_the_editor_can_be_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(client: httpx.AsyncClient, _: SmallGateway) -> None:
        for path in ("/", "/editor", "/editor/", "/editor/index.html", "/editor/samples/0.jpg"):
            assert (await client.get(path)).status_code == 404

    run(folder, case, monkeypatch, editor=False)


def test_requests_for_files_are_counted_and_drained_like_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(client: httpx.AsyncClient, gateway: SmallGateway) -> None:
        await client.get("/editor/")
        assert gateway.count("requests", operation="editor", status="200", channel="") == 1
        gateway.service.draining = True
        last = await client.get("/editor/ui/panel.js")
        assert (last.status_code, last.headers["connection"]) == (200, "close")

    run(folder, case, monkeypatch)
