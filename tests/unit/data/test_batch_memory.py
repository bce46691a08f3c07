import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neural_photo_editor.data.batch_memory import BatchMemory, scratch_memory
from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.shard_stream import Batch


@pytest.fixture
def memory() -> BatchMemory:
    return BatchMemory(num_workers=2, slots_per_worker=2, batch_size=3, resolution=4)


def test_a_slot_is_free_again_when_its_last_tensor_is_gone(memory: BatchMemory) -> None:
    slot = memory.take(worker=1, batch_size=3)
    assert slot is not None
    images, labels = memory.tensors(slot, batch_size=3)
    other = memory.take(worker=1, batch_size=3)
    assert other not in (None, slot)
    assert memory.take(worker=1, batch_size=3) is None
    assert memory.take(worker=0, batch_size=3) is not None

    last = labels[1].view(-1)[2:]
    del images, labels
    gc.collect()
    assert memory.take(worker=1, batch_size=3) is None
    del last
    assert memory.take(worker=1, batch_size=3) == slot


def test_a_batch_too_large_gets_no_slot(memory: BatchMemory) -> None:
    assert memory.take(worker=0, batch_size=4) is None


def test_what_a_forked_process_writes_is_read_here(memory: BatchMemory) -> None:
    pid = os.fork()
    if not pid:
        slot = memory.take(worker=0, batch_size=2)
        assert slot is not None
        images, labels = memory.arrays(slot, batch_size=2)
        images[:] = np.arange(images.size).reshape(images.shape)
        labels[:] = 7
        os._exit(slot.place)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    slot = memory.take(worker=0, batch_size=2)
    assert slot == (0, 1)  # The child took the first.
    images, labels = memory.tensors(slot._replace(place=0), batch_size=2)
    assert images.flatten().tolist() == list(range(2 * 3 * 16))
    assert labels.unique().tolist() == [7]
    assert images.is_contiguous()


def test_scratch_memory_is_aligned_as_promised() -> None:
    for num_bytes in (1, 100, 49152, 1000003):
        memory = scratch_memory(num_bytes)
        assert len(memory) == num_bytes
        assert memory.ctypes.data % 32 == 16


def _batches(shards: Path, num_workers: int) -> list[Batch]:
    data = ShardDataModule(
        shards=shards,
        batch_size=4,
        resolution=24,
        crop_size=24,
        horizontal_flip=True,
        placement={"rotation": 20, "shift": 0.1},
        color_jitter={"brightness": 0.3},
        quality_loss={"gray": 0.3, "blur": 0.3, "jpeg": 0.3},
        num_workers=num_workers,
        seed=3,
    )
    loader = data.train_dataloader()
    batches = []
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches.extend(loader)  # Keeps all: the slots run out.
    return batches


def test_batches_kept_are_those_read_without_workers(shards: Path) -> None:
    alone, together = _batches(shards, num_workers=0), _batches(shards, num_workers=2)
    assert len(alone) == len(together) == 18
    for expected, actual in zip(alone, together, strict=True):
        assert expected.keys() == actual.keys()
        for name in ("image", "labels", "sample_id"):
            assert torch.equal(expected[name], actual[name])  # type: ignore[literal-required]


def test_workers_send_batches_through_the_memory(shards: Path) -> None:
    data = ShardDataModule(shards=shards, batch_size=4, resolution=24, num_workers=2)
    loader = data.train_dataloader()
    addresses = set()
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        addresses |= {batch["image"].data_ptr() for batch in loader}
    assert len(addresses) <= 2 * 4
    memory = loader.memory  # type: ignore[attr-defined]
    start = memory._pixels.ctypes.data
    assert all(start <= address < start + memory._pixels.nbytes for address in addresses)
