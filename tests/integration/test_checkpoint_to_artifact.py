"""Arrow: a run's checkpoint -> an artifact with the averaged weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.data.origin import record_origin
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.training.checkpoint import load_ema_weights, read_checkpoint
from pipelines import bundle as bundling
from pipelines import export as exporting
from pipelines.chain import compose
from pipelines.evaluate import evaluate
from pipelines.export import export
from pipelines.prepare_shards import prepare_shards
from pipelines.train import train


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter after three steps, so that average and raw weights differ."""
    folder = tmp_path_factory.mktemp("segmenter")
    source = ["source.count=12", "source.resolution=32", "val_fraction=0.25", "num_workers=1"]
    prepare_shards(compose("prepare_shards", [*source, f"out_dir={folder / 'shards'}"]))
    overrides = [
        "experiment=demo_segmenter",
        "logger=csv",
        f"run_dir={folder / 'run'}",
        f"data.shards={folder / 'shards'}",
        "data.resolution=32",
        "data.batch_size=4",
        "network.widths=[16, 16]",
        "trainer.accelerator=cpu",
        "trainer.max_steps=3",
        "trainer.log_every_n_steps=1",
    ]
    return train(compose("train", overrides))


def _export(run_dir: Path, registry: Path) -> Path:
    cfg = compose("export", [f"run_dir={run_dir}", f"registry={registry}"])
    return resolve(registry, export(cfg))


def test_the_artifact_computes_what_the_averaged_network_computes(
    run_dir: Path, tmp_path: Path
) -> None:
    artifact = load_artifact(_export(run_dir, tmp_path))
    content = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    averaged = nn.Module()
    averaged.network = type(artifact.network)(**content["network"]["config"])
    load_ema_weights(averaged, run_dir / "checkpoints" / "last.ckpt")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = averaged.network.eval()(x)
        assert torch.equal(artifact.network(x), expected)
        # Raw weights would give something else.
        raw = {k[8:]: v for k, v in content["state_dict"].items() if k.startswith("network.")}
        averaged.network.load_state_dict(raw)
        assert not torch.equal(averaged.network(x), expected)


def test_the_specification_says_where_the_weights_come_from(run_dir: Path, tmp_path: Path) -> None:
    evaluation = evaluate(compose("evaluate", [f"run_dir={run_dir}", "device=cpu"]))
    folder = _export(run_dir, tmp_path)
    spec = load_artifact(folder).spec
    manifest = ShardManifest.load(run_dir.parent / "shards")
    assert (spec.name, spec.kind, spec.resolution) == ("demo_segmenter", "segmenter", 32)
    assert spec.provenance.data_manifest_digest == manifest.digest
    assert spec.provenance.data_name == manifest.name
    assert spec.provenance.licenses == ("CC0-1.0",)
    assert spec.metrics == pytest.approx(evaluation.metrics)
    preview = (run_dir / "evaluation" / "segmentation.png").read_bytes()
    assert (folder / "preview.png").read_bytes() == preview
    assert (folder / "config.yaml").read_text() == (run_dir / "config.yaml").read_text()
    record = json.loads((run_dir / "artifact.json").read_text())
    assert record["reference"] == f"demo_segmenter@{folder.name}"


@pytest.mark.parametrize(
    ("checkpoint", "flip", "reason"),
    [
        ("other.ckpt", "false", "of other weights than other.ckpt holds now"),
        ("last.ckpt", "true", "of the network with test-time flip"),
        ("copy.ckpt", "false", None),
    ],
)
def test_an_evaluation_of_anything_else_is_left_out(
    run_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    checkpoint: str,
    flip: str,
    reason: str | None,
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    last = run / "checkpoints" / "last.ckpt"
    shutil.copyfile(last, last.with_name("copy.ckpt"))
    content = read_checkpoint(last)
    next(iter(content["ema"]["state_dict"].values())).add_(0.01)
    torch.save(content, last.with_name("other.ckpt"))
    evaluate(compose("evaluate", [f"run_dir={run}", "device=cpu", f"test_time_flip={flip}"]))
    settings = [f"run_dir={run}", f"registry={tmp_path}/registry", f"checkpoint={checkpoint}"]
    caplog.set_level("WARNING", logger="pipelines.export")
    folder = resolve(tmp_path / "registry", export(compose("export", settings)))
    attached = bool(load_artifact(folder).spec.metrics), (folder / "preview.png").is_file()
    if reason is None:
        assert attached == (True, True)
        assert not caplog.messages
    else:
        assert attached == (False, False)
        (message,) = caplog.messages
        assert reason in message
        assert f"evaluate.py run_dir={run} checkpoint={checkpoint}" in message


def test_an_evaluation_says_of_what_it_is(run_dir: Path, tmp_path: Path) -> None:
    settings = [f"run_dir={run_dir}", f"out_dir={tmp_path / 'out'}", "device=cpu", "max_samples=1"]
    result = evaluate(compose("evaluate", settings))
    assert EvaluationResult.load(tmp_path / "out") == result
    assert result.network_sha256 == sha256_file(_export(run_dir, tmp_path) / "model.safetensors")
    manifest = ShardManifest.load(run_dir.parent / "shards")
    assert result.settings == {
        "test_time_flip": False,
        "max_samples": 1,
        "data_name": manifest.name,
        "data_manifest_digest": manifest.digest,
    }


def test_an_artifact_is_of_the_data_it_was_trained_on(run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    config = (run / "config.yaml").read_text()
    shards = Path(shutil.copytree(run_dir.parent / "shards", tmp_path / "shards"))
    (run / "config.yaml").write_text(config.replace(str(run_dir.parent / "shards"), str(shards)))
    manifest = ShardManifest.load(shards)
    assert load_artifact(_export(run, tmp_path / "registry")).spec.provenance.git_commit
    other = manifest.model_copy(update={"name": "other", "licenses": ("MIT",)})
    other.save(shards)  # Prepared again after the training.
    with pytest.raises(ValueError, match=f"trained on {manifest.name} with the manifest"):
        _export(run, tmp_path / "registry")
    # Continued on the other data: the weights are of both.
    checkpoint = str(run / "checkpoints/last.ckpt")
    record_origin(run, other, git_commit=None, ckpt_path=checkpoint)
    provenance = load_artifact(_export(run, tmp_path / "registry")).spec.provenance
    assert provenance.licenses == ("CC0-1.0", "MIT")
    assert (provenance.data_name, provenance.data_manifest_digest) == ("other", other.digest)
    (run / "origin.json").unlink()
    with pytest.raises(ValueError, match=r"origin\.json is missing"):
        _export(run, tmp_path / "registry")


@pytest.mark.parametrize("pipeline", ["export", "bundle"])
def test_a_folder_that_cannot_be_written_is_named_without_a_traceback(
    run_dir: Path, tmp_path: Path, pipeline: str
) -> None:
    (tmp_path / "file").touch()
    parts = [f"{kind}={kind}@1" for kind in ("denoiser", "segmenter", "upscaler")]
    main, settings = {
        "export": (exporting.main, [f"run_dir={run_dir}", f"registry={tmp_path}/file/x"]),
        "bundle": (bundling.main, [*parts, f"out_dir={tmp_path}/file/x"]),
    }[pipeline]
    with pytest.raises(SystemExit, match=rf"^{pipeline}: .*Not a directory.*file"):
        main(compose(pipeline, settings))


def test_an_artifact_evaluates_like_its_run(run_dir: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    _export(run_dir, registry)
    of_run = evaluate(
        compose("evaluate", [f"run_dir={run_dir}", f"out_dir={tmp_path / 'a'}", "device=cpu"])
    )
    overrides = ["artifact=demo_segmenter@latest", f"registry={registry}", "device=cpu"]
    of_artifact = evaluate(compose("evaluate", [*overrides, f"out_dir={tmp_path / 'b'}"]))
    assert of_artifact == of_run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "give either run_dir=DIR or artifact"),
        (["artifact=x@1"], "give out_dir=DIR"),
        (["artifact=x@1", "out_dir=a", "registry=none"], "there is no artifact 'x'"),
        (["run_dir=nowhere"], "no checkpoint at nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(compose("evaluate", overrides))
