"""A worker with a key in its environment signs, one without does not, one with nonsense stops."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from neural_photo_editor.api.receipt import canonical_json, read_receipt
from neural_photo_editor.api.signing import KEY_VARIABLE, SigningKey, key_to_text
from neural_photo_editor.api.verification import Outcome, verify_receipt
from neural_photo_editor.editing.replay import check_replay
from serve.handler import NeuralPhotoEditorHandler
from tests.unit.api.signed_edits import MASK, make_upload
from tests.unit.editing.staged_bundle import staged_bundle
from tests.unit.editing.tiny_pipeline import mask_png
from tests.unit.serve.test_handler import MockContext

SECRET = bytes(range(7, 39))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return staged_bundle(tmp_path_factory.mktemp("handler"))


def _document(bundle: Path) -> dict[str, Any]:
    """Return the reply to an edit with a receipt."""
    handler, context = NeuralPhotoEditorHandler(), MockContext(1)
    context.system_properties["model_dir"] = str(bundle)
    handler.initialize(context)
    body = {
        "operation": "edit",
        "photo": base64.b64encode(make_upload("jpeg-rotated")).decode(),
        "mask": base64.b64encode(mask_png(MASK)).decode(),
        "color": "#30c060",
        "receipt": True,
        "response": "json",
    }
    (reply,) = handler.handle([{"body": body}], context)
    document = json.loads(reply)
    assert isinstance(document, dict)
    return document


def test_a_worker_with_a_key_signs_what_can_be_replayed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key_to_text(SECRET))
    document = _document(bundle)
    receipt = read_receipt(canonical_json(document["receipt"]))
    photo, edited = make_upload("jpeg-rotated"), base64.b64decode(document["image"])
    public_key = SigningKey(SECRET).public_key
    checks = verify_receipt(receipt, original=photo, edited=edited, trusted_keys=[public_key])
    checks.append(check_replay(receipt, photo=photo, edited=edited, bundle=bundle))
    assert {check.outcome for check in checks} == {Outcome.OK}
    assert key_to_text(SECRET) not in json.dumps(document)


def test_a_worker_without_a_key_refuses(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    document = _document(bundle)
    assert (document["status"], document["field"]) == (422, "receipt")
    assert KEY_VARIABLE in document["remedy"]


def test_a_worker_with_a_wrong_key_does_not_become_ready(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "c2VjcmV0")
    with pytest.raises(ValueError, match=KEY_VARIABLE) as caught:
        _document(bundle)
    assert "c2VjcmV0" not in str(caught.value)
