"""Importing the networks of peers whose packages want more than their networks do.

None of the named packages makes a layer of a network that is measured: torchvision (which has no
CPU build for the pinned torch), ema-pytorch, accelerate and others are imported by the peers for
data, trainers and other networks. Here they are empty modules, any name of which is an empty class.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PEERS = Path(__file__).resolve().parents[1] / "outputs" / "peers"
ABSENT = ("accelerate", "cv2", "ema_pytorch", "h5py", "pytorch_fid", "torchvision")


def find_peers() -> None:
    """Let peers be imported; what this environment has itself is found first."""
    sys.path.append(str(PEERS))
    sys.meta_path.append(_Finder())


class _EmptyType(type):
    def __getattr__(cls, name: str) -> Any:
        return _empty_class(cls, name)


class _EmptyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _empty_class(self, name)


def _empty_class(owner: Any, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    setattr(owner, name, _EmptyType(name, (), {}))
    return getattr(owner, name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last, and so finds only what is not installed."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in ABSENT:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass
