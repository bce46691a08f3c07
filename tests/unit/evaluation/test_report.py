from html.parser import HTMLParser
from pathlib import Path

import pytest

from neural_photo_editor.evaluation.report import Check, Figure, Section, Table, write_report


class Page(HTMLParser):
    """Collects images, text and the tags left open."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for name in ("src", "href") if (value := values.get(name))]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _write(folder: Path, *checks: Check) -> Page:
    (folder / "edits").mkdir(exist_ok=True)
    (folder / "edits/a.png").write_bytes(b"")
    section = Section(
        "Edits <now>",
        "a & b",
        figures=[Figure("edits/a.png", "Hair", "caption", {"seed": "3"})],
        tables=[Table(("Region", "IoU"), {"hair": 0.98765})],
        beside=True,
    )
    path = write_report(folder, title="T", summary="S", checks=checks, sections=[section])
    return Page(path.read_text())


def test_the_page_is_well_formed_and_stands_alone(tmp_path: Path) -> None:
    page = _write(tmp_path, Check("IoU", 0.9, 0.85))
    assert page.open == []
    assert page.links == ["edits/a.png"]
    for text in (
        "Edits <now>",
        "a & b",
        "Hair",
        "seed",
        "0.9877",
        "All numeric checks hold; judge the pictures by eye",
    ):
        assert text in page.text
    assert "http" not in (tmp_path / "report.html").read_text()


def test_a_failed_check_is_said_at_the_top(tmp_path: Path) -> None:
    page = _write(tmp_path, Check("IoU", 0.8, 0.85), Check("outside", 0, 0, "at most"))
    assert "1 of 2 checks failed" in page.text


@pytest.mark.parametrize(
    ("value", "relation", "passed"),
    [
        (1.0, "at least", True),
        (0.9, "at least", False),
        (1.0, "at most", True),
        (1.1, "at most", False),
        (float("nan"), "at least", False),
        (float("nan"), "at most", False),
    ],
)
def test_checks_compare_inclusively_and_nan_fails(
    value: float, relation: str, passed: bool
) -> None:
    check = Check("x", value, 1.0, relation)  # type: ignore[arg-type]
    assert check.passed is passed
    assert ("holds" if passed else "FAILS") in str(check)


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    sections = [Section("A", figures=[Figure("none.png")])]
    with pytest.raises(ValueError, match=r"none\.png"):
        write_report(tmp_path, title="T", summary="", checks=[], sections=sections)
