"""Small ICC profiles (version 2.1), built from their definition, and what they mean in sRGB."""

import struct

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Columns: the XYZ (D50) of full red, green and blue.
ADOBE_RGB = np.array(
    [[0.60976, 0.20524, 0.14922], [0.31112, 0.62566, 0.06322], [0.01948, 0.06089, 0.74484]]
)
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
D50 = np.array([0.9642, 1.0, 0.8249])


def rgb_profile(colorants: Floats, *, gamma: float) -> bytes:
    tags = {b"wtpt": _xyz(D50)}
    for name, column in zip((b"r", b"g", b"b"), colorants.T, strict=True):
        tags[name + b"XYZ"] = _xyz(column)
        tags[name + b"TRC"] = _curve(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def gray_profile(*, gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(D50), b"kTRC": _curve(gamma)})


def cmyk_profile(lightness_of_ink: float) -> bytes:
    """White without any ink; with any ink at all, a gray of this CIE lightness (0..100)."""
    identity = bytes(range(256))
    table = bytearray()
    for node in range(16):  # the 2 x 2 x 2 x 2 corners, black varying fastest
        lightness = 100.0 if node == 0 else lightness_of_ink
        table += bytes([round(lightness * 2.55), 128, 128])
    matrix = b"".join(_s15f16(value) for value in np.eye(3).ravel())
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + identity * 4 + table + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(D50), b"A2B0": lut})


def srgb_of(rgb: NDArray[np.uint8], colorants: Floats, *, gamma: float) -> Floats:
    """Convert (..., 3) pixels of :func:`rgb_profile` to sRGB, 0..255, by the formulas."""
    xyz = (rgb / 255) ** gamma @ colorants.T
    return encode_srgb(xyz @ np.linalg.inv(SRGB).T)


def encode_srgb(linear: Floats) -> Floats:
    """IEC 61966-2-1: linear light 0..1 to 0..255."""
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">I4sI", start + len(body), b"\0" * 4, 0x02100000)
    header += kind + space + connection + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp"
    header = header.ljust(68, b"\0") + b"".join(_s15f16(value) for value in D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(values: Floats) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_s15f16(value) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _s15f16(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
