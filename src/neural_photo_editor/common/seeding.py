"""Seeds are derived from what a random choice is for, never from what ran before it."""

import hashlib

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """Hash any number of integers and strings into a seed in [0, 2**63).

    The type of a part counts: ``derive_seed(1)`` and ``derive_seed("1")`` differ.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a NumPy generator seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(*parts))
