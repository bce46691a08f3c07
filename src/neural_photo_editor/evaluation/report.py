"""The report of a demo: one HTML page that shows its pictures and says what was checked."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from neural_photo_editor.evaluation.report_style import STYLE

REPORT_NAME = "report.html"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: what is measured.
        value: what was measured.
        bound: what it is compared with.
        relation: "at least" or "at most", from value to bound.
        unit: printed after the numbers.
    """

    name: str
    value: float
    bound: float
    relation: Literal["at least", "at most"] = "at least"
    unit: str = ""

    @property
    def passed(self) -> bool:
        # Written so that NaN fails.
        above = self.value >= self.bound
        below = self.value <= self.bound
        return above if self.relation == "at least" else below

    def __str__(self) -> str:
        verdict = "holds" if self.passed else "FAILS"
        return (
            f"{self.name}: {self.value:.4g}{self.unit}, "
            f"{self.relation} {self.bound:.4g}{self.unit} -- {verdict}"
        )


@dataclass(frozen=True)
class Figure:
    """A picture with its caption.

    Attributes:
        file: the picture, a path relative to the report's folder.
        title: printed above it.
        caption: printed below it.
        facts: names and values printed below the caption.
    """

    file: str
    title: str = ""
    caption: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows of a name and a number."""

    headers: tuple[str, str]
    rows: Mapping[str, float]


@dataclass(frozen=True)
class Grid:
    """A table of texts; a cell that begins with ✓ or ✗ is colored so, too."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the report; figures flow side by side where ``beside`` is set."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table | Grid] = ()
    beside: bool = False


def write_report(
    folder: Path,
    *,
    title: str,
    summary: str,
    checks: Sequence[Check],
    sections: Sequence[Section],
    embed: bool = False,
) -> Path:
    """Write ``report.html``, which needs nothing but the pictures in its own folder.

    Args:
        folder: holds the pictures and receives the page.
        title: of the page.
        summary: a sentence or two below the title.
        checks: shown first, with a verdict.
        sections: in the order given.
        embed: put the pictures, PNG files, into the page, which then needs nothing at all.

    Raises:
        ValueError: a picture is not in the folder.
    """
    for figure in (figure for section in sections for figure in section.figures):
        if Path(figure.file).is_absolute() or not (folder / figure.file).is_file():
            raise ValueError(f"the report shows {figure.file!r}, which is not in {folder}")
    failed = [check for check in checks if not check.passed]
    verdict = (
        f"{len(failed)} of {len(checks)} checks failed"
        if failed
        else "All numeric checks hold; judge the pictures by eye"
    )
    parts = [
        f"<header><h1>{escape(title)}</h1><p>{escape(summary)}</p>",
        f'<p class="verdict {"bad" if failed else "good"}">{verdict}</p></header>',
        *(_section(section, folder if embed else None) for section in sections),
        "<section><h2>Checks</h2>",
        f'<div class="card wide">{_checks(checks)}</div></section>',
    ]
    path = folder / REPORT_NAME
    page = _PAGE.format(title=escape(title), style=STYLE, body="\n".join(parts))
    path.write_text(page, encoding="utf-8")
    return path


def _checks(checks: Sequence[Check]) -> str:
    rows = []
    for check in checks:
        mark, word = ("good", "✓ holds") if check.passed else ("bad", "✗ fails")
        rows.append(
            f'<tr><td>{escape(check.name)}</td><td class="number">{check.value:.4g}'
            f"{escape(check.unit)}</td><td>{check.relation} {check.bound:.4g}{escape(check.unit)}"
            f'</td><td class="{mark}">{word}</td></tr>'
        )
    head = "<tr><th>Measured</th><th>Value</th><th>Must be</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _section(section: Section, embedded_from: Path | None) -> str:
    figures = "".join(
        f'<div class="card">{_figure(figure, embedded_from)}</div>' for figure in section.figures
    )
    tables = "".join(f'<div class="card wide">{_table(table)}</div>' for table in section.tables)
    if section.beside:
        figures = f'<div class="pair">{figures}</div>'
    if len(section.tables) > 1:
        tables = f'<div class="pair">{tables}</div>'
    text = f'<p class="soft">{escape(section.text)}</p>' if section.text else ""
    return f"<section><h2>{escape(section.title)}</h2>{text}{figures}{tables}</section>"


def _figure(figure: Figure, embedded_from: Path | None) -> str:
    title = f"<h3>{escape(figure.title)}</h3>" if figure.title else ""
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in figure.facts.items()
    )
    source, alt = escape(figure.file), escape(figure.title or figure.caption or figure.file)
    if embedded_from is not None:
        content = base64.b64encode((embedded_from / figure.file).read_bytes()).decode("ascii")
        source = f"data:image/png;base64,{content}"
    return (
        f'<figure>{title}<img src="{source}" alt="{alt}" loading="lazy">{caption}'
        f"{f'<dl>{facts}</dl>' if facts else ''}</figure>"
    )


def _table(table: Table | Grid) -> str:
    if isinstance(table, Grid):
        head = "".join(f"<th>{escape(header)}</th>" for header in table.headers)
        lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
        return f"<table><tr>{head}</tr>{lines}</table>"
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{value:.4g}</td></tr>'
        for name, value in table.rows.items()
    )
    first, second = (escape(header) for header in table.headers)
    return f"<table><tr><th>{first}</th><th>{second}</th></tr>{rows}</table>"


def _cell(text: str) -> str:
    mark = {"✓": "good", "✗": "bad"}.get(text[:1])
    return f'<td class="{mark}">{escape(text)}</td>' if mark else f"<td>{escape(text)}</td>"
