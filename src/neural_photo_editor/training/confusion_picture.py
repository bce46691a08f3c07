"""A picture of which regions a segmenter takes for which."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure

from neural_photo_editor.common.regions import REGION_NAMES
from neural_photo_editor.metrics.segmentation import ConfusionMatrix
from neural_photo_editor.training.optional_file import write_optional
from neural_photo_editor.training.segmenter_module import SegmenterModule

_LIGHT_TEXT_ABOVE = 0.6  # of a row: from here on cells are dark


class ConfusionPicture(Callback):
    """Writes ``run_dir/confusion/step-000500.png`` at every validation; process 0 alone does it.

    W&B takes the pictures from the folder, as those of `SampleGrid`.
    """

    def __init__(self, *, run_dir: str | Path) -> None:
        self.folder = Path(run_dir) / "confusion"

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SegmenterModule)
        if trainer.is_global_zero and pl_module.confusion is not None:
            step = trainer.global_step
            path = self.folder / f"step-{step:06d}.png"
            title = f"validation after {step:,} steps"
            confusion = pl_module.confusion
            write_optional(path, lambda partial: draw_confusion(confusion, partial, title=title))


def draw_confusion(confusion: ConfusionMatrix, path: Path, *, title: str) -> Path:
    """Draw the share of each true region's pixels that was predicted as each region, as PNG.

    Rows sum to 100 %; a region that the photos lack has an empty row.

    Args:
        confusion: of the eleven regions.
        path: file to write, at once and whole; its folder is made.
    """
    shares = confusion.row_shares().cpu().numpy()
    figure = Figure(figsize=(6.6, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    ticks = range(len(REGION_NAMES))
    axes.set_xticks(ticks, REGION_NAMES, rotation=45, ha="right")
    axes.set_yticks(ticks, REGION_NAMES)
    axes.set_xlabel("predicted region")
    axes.set_ylabel("true region")
    axes.set_title(f"{title}: % of each true region's pixels", fontsize=10)
    for row, column in zip(*(shares >= 0.0005).nonzero(), strict=True):
        share = shares[row, column]
        color = "white" if share > _LIGHT_TEXT_ABOVE else "black"
        text = f"{100 * share:.1f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    figure.savefig(partial, dpi=110, format="png")
    return partial.replace(path)
