"""The routes file: read when it changes, and a broken one changes nothing."""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.gateway.routes import BackendRoute, Canary, Routes, RoutesFile

OLD = BackendRoute(url="http://127.0.0.1:1", control_url="http://127.0.0.1:2")
NEW = BackendRoute(url="http://127.0.0.1:3", control_url="http://127.0.0.1:4", model="m")
ROUTES = Routes(production=(OLD,), canary=Canary(weight=0.1, backends=(NEW,)))


def write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_it_is_read_once_for_each_change(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    write(path, ROUTES.model_dump_json())
    file = RoutesFile(path)
    assert file.changed() == ROUTES
    assert file.changed() is None
    write(path, Routes(production=(NEW,)).model_dump_json())
    assert file.changed() == Routes(production=(NEW,))


def test_the_form_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    write(
        path,
        '{"production": [{"url": "http://127.0.0.1:1", "control_url": "http://127.0.0.1:2"}],'
        ' "canary": {"weight": 0.1, "backends":'
        ' [{"url": "http://127.0.0.1:3", "control_url": "http://127.0.0.1:4", "model": "m"}]}}',
    )
    assert RoutesFile(path).changed() == ROUTES


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"production": [{"url": "http://127.0.0.1:1"}]}',
        '{"production": [], "staging": []}',
        '{"production": [{"url": "file:///etc", "control_url": "http://127.0.0.1:2"}]}',
        '{"production": [{"url": "http://127.0.0.1:abc", "control_url": "http://127.0.0.1:2"}]}',
        '{"production": [{"url": "http://127.0.0.1:1", "control_url": "http://127.0.0.1:99999"}]}',
        '{"production": [{"url": "http://[::1", "control_url": "http://127.0.0.1:2"}]}',
    ],
)
def test_a_broken_file_is_logged_and_a_mended_one_read(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "routes.json"
    write(path, text)
    file = RoutesFile(path)
    with caplog.at_level(logging.ERROR):
        assert file.changed() is None
        assert file.changed() is None
    assert len(caplog.records) == 1
    assert "broken" in caplog.text
    assert str(tmp_path) not in caplog.text
    write(path, ROUTES.model_dump_json())
    assert file.changed() == ROUTES


def test_a_missing_file_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "routes.json"
    file = RoutesFile(path)
    for _ in range(3):
        assert file.changed() is None
    assert caplog.text.count("missing") == 1
    write(path, ROUTES.model_dump_json())
    assert file.changed() == ROUTES


@contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_file_that_could_not_be_read_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "routes.json"
    write(path, ROUTES.model_dump_json())
    file = RoutesFile(path)
    with no_file_can_be_opened():
        for _ in range(3):
            assert file.changed() is None
    assert caplog.text.count("unreadable (Too many open files)") == 1
    assert file.changed() == ROUTES


def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    """Kubernetes writes a new folder and turns a link: the file's own link never changes."""
    path = tmp_path / "routes.json"
    path.symlink_to("..data/routes.json")
    file = RoutesFile(path)
    for number, routes in enumerate((ROUTES, Routes(production=(NEW,)))):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "routes.json").write_text(routes.model_dump_json())
        (tmp_path / "..data_new").symlink_to(folder.name)
        (tmp_path / "..data_new").rename(tmp_path / "..data")
        assert file.changed() == routes
        assert file.changed() is None


def test_channels_name_every_backend_once() -> None:
    both = Routes(production=(OLD,), canary=Canary(weight=0.5, backends=(OLD, NEW)))
    assert both.channels() == {OLD: "production", NEW: "canary"}
