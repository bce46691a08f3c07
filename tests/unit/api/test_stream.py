"""Server-sent events, cut anywhere."""

import base64
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_photo_editor.api.stream import Event, EventParser, Progress, read_progress
from serve.gateway.event_stream import format_event

# Without what ends a line, and surrogates, which UTF-8 has not.
LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=20)
NAMES = LINES.filter(lambda name: name != "")
EVENTS = st.lists(st.builds(Event, NAMES, st.lists(LINES, min_size=1, max_size=3).map("\n".join)))


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Event], bytes]:
    """Draw events and a stream that holds them, written in any of the ways that are allowed."""
    events, text = draw(EVENTS), draw(st.sampled_from(["", "\ufeff"]))
    end = draw(st.sampled_from(["\n", "\r", "\r\n"]))
    for event in events:
        lines = [f":{draw(LINES)}"] * draw(st.integers(0, 2)) + ["id: 7", "retry"]
        space = draw(st.sampled_from(["", " "]))
        for name, value in [("event", event.name), *(("data", x) for x in event.data.split("\n"))]:
            # One space after the colon is not the value's.
            lines.append(f"{name}:{space or ' ' * value.startswith(' ')}{value}")
        text += "".join(line + end for line in [*lines, ""])
    return events, text.encode()


@given(streams(), st.data())
def test_events_are_the_same_wherever_the_stream_is_cut(
    stream: tuple[list[Event], bytes], data: st.DataObject
) -> None:
    events, wire = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=9)))
    parser = EventParser(max_bytes=10_000)
    chunks = [wire[start:end] for start, end in pairwise([0, *cuts, len(wire)])]
    assert [event for chunk in chunks for event in parser.feed(chunk)] == events


@given(st.lists(st.binary()))
def test_any_bytes_are_events_or_refused(chunks: list[bytes]) -> None:
    parser = EventParser(max_bytes=50)
    try:
        for chunk in chunks:
            parser.feed(chunk)
    except ValueError:
        pass


def test_bytes_one_by_one() -> None:
    parser = EventParser(max_bytes=100)
    wire = b": still working\r\n\r\nevent: a\r\ndata: 1\r\rdata\ndata:  2\n\n" + b"data: cut off"
    events = [event for byte in wire for event in parser.feed(bytes([byte]))]
    assert events == [Event("a", "1"), Event("message", "\n 2")]


def test_what_the_gateway_writes_is_read() -> None:
    wire = format_event("progress", '{"step": 1}') + b": still working\n\n"
    assert EventParser(max_bytes=100).feed(wire) == [Event("progress", '{"step": 1}')]


def test_an_event_has_a_limit_and_the_stream_has_none() -> None:
    parser = EventParser(max_bytes=20)
    for _ in range(50):
        assert len(parser.feed(b"data: 0123456789\n\n")) == 1
    parser.feed(b"data: 0123456789\n")
    with pytest.raises(ValueError, match="more than 20 bytes"):
        parser.feed(b"data: 01")


def test_progress_is_read() -> None:
    document = {"step": 3, "total_steps": 20, "crop": [-1, 0, 63, 64], "width": 80, "height": 64}
    assert read_progress(json.dumps(document)) == Progress(3, 20, None, (-1, 0, 63, 64))
    document["preview"] = base64.b64encode(b"webp").decode()
    progress = read_progress(json.dumps(document))
    assert (progress.preview, progress.fraction) == (b"webp", 0.15)
    assert Progress(21, 20).fraction == 1.0


@pytest.mark.parametrize(
    "data", ["", "[]", "{}", '{"step": "a", "total_steps": 2}', '{"step": 1, "total_steps": null}',
             '{"step": 1, "total_steps": 2, "crop": [1]}',
             '{"step": 1, "total_steps": 2, "preview": "?"}'],
)  # fmt: skip
def test_what_is_no_progress_is_refused(data: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        read_progress(data)
