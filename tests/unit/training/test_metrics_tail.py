import math
from pathlib import Path

from neural_photo_editor.training.metrics_csv import MetricsCSV
from neural_photo_editor.training.metrics_tail import MetricsTail, file_state


def steps(tail: MetricsTail) -> list[float]:
    return [row["step"] for row in tail.read()]


def test_each_row_is_read_once_also_when_a_new_column_replaces_the_file(tmp_path: Path) -> None:
    tail = MetricsTail(tmp_path / "metrics.csv")
    assert steps(tail) == []
    record = MetricsCSV(tmp_path)
    record.log_metrics({"train/loss": 0.1}, step=0)
    record.log_metrics({"train/loss": math.nan}, step=1)
    assert steps(tail) == [0, 1]
    record.log_metrics({"val/loss": 0.3}, step=1)
    record.log_metrics({"train/loss": 0.2}, step=2)
    assert next(iter(tail.read()))["val/loss"] == 0.3
    assert steps(tail) == []


def test_a_row_that_is_not_complete_is_read_when_it_is(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss\n0,0.5\n1,0.")
    tail = MetricsTail(path)
    assert steps(tail) == [0]
    with path.open("a") as file:
        file.write("25\n")
    assert list(tail.read()) == [{"step": 1, "train/loss": 0.25}]


def test_what_a_resumed_training_will_replace_is_not_read(tmp_path: Path) -> None:
    first = MetricsCSV(tmp_path)
    for step in range(4):
        first.log_metrics({"train/loss": 1.0}, step=step)
    tail = MetricsTail(first.path, stale=file_state(first.path))
    assert steps(tail) == []
    MetricsCSV(tmp_path, resumed_from="last.ckpt").log_metrics({"train/loss": 2.0}, step=2)
    assert [(row["step"], row["train/loss"]) for row in tail.read()] == [(0, 1), (1, 1), (2, 2)]
