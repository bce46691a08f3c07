import logging
from pathlib import Path

import pytest

from neural_photo_editor.common.stages import Stage, run_stages


class Chain:
    """Two stages, the second of which reads what the first wrote; counts the runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[tuple[str, bool]] = []
        self.word, self.suffix = "hello", "!"
        self.stop_in = ""

    def first(self, continued: bool) -> None:
        self.runs.append(("first", continued))
        (self.folder / "first").write_text(self.word)

    def second(self, continued: bool) -> None:
        self.runs.append(("second", continued))
        if self.stop_in == "second":
            raise KeyboardInterrupt
        (self.folder / "second").write_text((self.folder / "first").read_text() + self.suffix)

    def run(self, **options: bool) -> list[tuple[str, bool]]:
        self.runs = []
        stages = [
            Stage("first", {"word": self.word}, (), (self.folder / "first",), self.first),
            Stage(
                "second one",
                {"suffix": self.suffix},
                ("first",),
                (self.folder / "second",),
                self.second,
            ),
        ]
        self.records = run_stages(stages, state_dir=self.folder / "state", **options)
        return self.runs


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


BOTH = [("first", False), ("second", False)]


def test_a_second_call_does_nothing(chain: Chain) -> None:
    assert chain.run() == BOTH
    durations = {name: record.duration_s for name, record in chain.records.items()}
    assert chain.run() == []
    assert {name: record.duration_s for name, record in chain.records.items()} == durations
    assert chain.run(force=True) == BOTH


def test_a_setting_reruns_its_stage_and_what_depends_on_it(chain: Chain) -> None:
    chain.run()
    chain.suffix = "?"
    assert chain.run() == [("second", False)]
    chain.word = "bye"
    assert chain.run() == BOTH
    assert (chain.folder / "second").read_text() == "bye?"


def test_what_gives_the_same_outputs_reruns_nothing_downstream(chain: Chain) -> None:
    chain.run()
    (chain.folder / "first").write_text("damaged")
    assert chain.run() == [("first", False)]


def test_a_missing_output_is_made_again(chain: Chain) -> None:
    chain.run()
    (chain.folder / "second").unlink()
    assert chain.run() == [("second", False)]


def test_a_stopped_stage_is_continued(chain: Chain) -> None:
    chain.stop_in = "second"
    with pytest.raises(KeyboardInterrupt):
        chain.run()
    chain.stop_in = ""
    assert chain.run() == [("second", True)]
    assert chain.run() == []


def test_leftovers_of_other_settings_are_not_continued(chain: Chain) -> None:
    chain.stop_in = "second"
    with pytest.raises(KeyboardInterrupt):
        chain.run()
    chain.stop_in, chain.suffix = "", "..."
    assert chain.run() == [("second", False)]


def test_a_damaged_state_file_counts_as_never_run(chain: Chain) -> None:
    chain.run()
    (chain.folder / "state/second-one.json").write_text('{"fing')
    assert chain.run() == [("second", False)]


def test_every_stage_has_its_line(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("neural_photo_editor")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger="neural_photo_editor")
    try:
        chain.run()
        chain.suffix, chain.stop_in = "?", "second"
        with pytest.raises(KeyboardInterrupt):
            chain.run()
    finally:
        logger.removeHandler(caplog.handler)
    lines = [record.getMessage() for record in caplog.records]
    assert "[2/2] second one ... 0 s" in lines
    assert "[1/2] first: up to date" in lines
    assert lines[-1].startswith("[2/2] second one: stopped (KeyboardInterrupt); the next call")


def test_a_stage_without_its_output_fails(tmp_path: Path) -> None:
    stage = Stage("empty", {}, (), (tmp_path / "nothing",), lambda _: None)
    with pytest.raises(RuntimeError, match=r"'empty' ended without .*nothing"):
        run_stages([stage], state_dir=tmp_path)


def test_a_chain_out_of_order_is_refused(tmp_path: Path) -> None:
    early = Stage("a", {}, ("b",), (), lambda _: None)
    with pytest.raises(ValueError, match="'a' reads 'b'"):
        run_stages([early], state_dir=tmp_path)
    twice = Stage("a", {}, (), (), lambda _: None)
    with pytest.raises(ValueError, match="two stages"):
        run_stages([twice, twice], state_dir=tmp_path)
