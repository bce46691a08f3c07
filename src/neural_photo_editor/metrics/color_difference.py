"""How different two colors look: sRGB to CIELAB, and CIEDE2000 between CIELAB colors."""

import numpy as np
from numpy.typing import NDArray

Colors = NDArray[np.float64]

SRGB_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
"""Linear sRGB to CIE XYZ (ITU-R BT.709 primaries, D65)."""

WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
"""XYZ of the D65 white, 2 degree observer."""

POWER_25_7 = 25.0**7


def srgb_to_lab(photo: NDArray[np.uint8]) -> Colors:
    """Convert sRGB, IEC 61966-2-1, to CIELAB of 1976 under D65.

    Args:
        photo: uint8, (..., 3).

    Returns:
        L in 0..100, a and b, float64, (..., 3).
    """
    encoded = np.arange(256) / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    ratio = linear[photo] @ SRGB_TO_XYZ.T / WHITE_D65
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16.0) / 116.0)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def ciede2000(first: Colors, second: Colors) -> Colors:
    """CIEDE2000 (Sharma, Wu and Dalal 2005, Eq. 2 to 22) with k_L = k_C = k_H = 1.

    About 1 is the least difference that an eye sees; 100 lies between black and white.

    Args:
        first, second: CIELAB colors, (..., 3).

    Returns:
        float64, (...), at least 0.
    """
    L_1, a_1, b_1 = np.moveaxis(first, -1, 0)
    L_2, a_2, b_2 = np.moveaxis(second, -1, 0)
    # Chroma and hue, a stretched for grayish colors: Eq. 2 to 7.
    mean_chroma_7 = (0.5 * (np.hypot(a_1, b_1) + np.hypot(a_2, b_2))) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(mean_chroma_7 / (mean_chroma_7 + POWER_25_7))
    C_1, C_2 = np.hypot(stretch * a_1, b_1), np.hypot(stretch * a_2, b_2)
    h_1 = np.degrees(np.arctan2(b_1, stretch * a_1)) % 360.0
    h_2 = np.degrees(np.arctan2(b_2, stretch * a_2)) % 360.0

    # Differences: Eq. 8 to 11. Gray has no hue.
    no_hue = C_1 * C_2 == 0.0
    turn, far = h_2 - h_1, np.abs(h_2 - h_1) > 180.0
    hue_step = np.where(no_hue, 0.0, np.where(far, turn - np.copysign(360.0, turn), turn))
    delta_L, delta_C = L_2 - L_1, C_2 - C_1
    delta_H = 2.0 * np.sqrt(C_1 * C_2) * np.sin(np.radians(hue_step) / 2.0)

    # Means: Eq. 12 to 14.
    L, C = 0.5 * (L_1 + L_2), 0.5 * (C_1 + C_2)
    h_sum = h_1 + h_2
    around = np.where(far, h_sum + np.where(h_sum < 360.0, 360.0, -360.0), h_sum)
    h = np.where(no_hue, h_sum, 0.5 * around)

    # Weights and the rotation of blues: Eq. 15 to 21.
    T = (
        1.0
        - 0.17 * np.cos(np.radians(h - 30.0))
        + 0.24 * np.cos(np.radians(2.0 * h))
        + 0.32 * np.cos(np.radians(3.0 * h + 6.0))
        - 0.20 * np.cos(np.radians(4.0 * h - 63.0))
    )
    S_L = 1.0 + 0.015 * (L - 50.0) ** 2 / np.sqrt(20.0 + (L - 50.0) ** 2)
    S_C, S_H = 1.0 + 0.045 * C, 1.0 + 0.015 * C * T
    angle = 30.0 * np.exp(-(((h - 275.0) / 25.0) ** 2))
    R_T = -2.0 * np.sqrt(C**7 / (C**7 + POWER_25_7)) * np.sin(np.radians(2.0 * angle))

    lightness, chroma, hue = delta_L / S_L, delta_C / S_C, delta_H / S_H
    # Rounding may leave a hair below zero where the colors are equal.
    squared = lightness**2 + chroma**2 + hue**2 + R_T * chroma * hue
    difference: Colors = np.sqrt(np.maximum(squared, 0.0))
    return difference
