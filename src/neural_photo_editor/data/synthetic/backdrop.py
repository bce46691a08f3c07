"""Out-of-focus backgrounds: studio gradients, bokeh, a window, hills."""

import math

import numpy as np

from neural_photo_editor.data.synthetic.raster import Canvas, Field, Noise, smoothstep
from neural_photo_editor.data.synthetic.scene import Scene


def paint_backdrop(canvas: Canvas, *, scene: Scene) -> None:
    """Fill the canvas with the scene's background."""
    backdrop = scene.backdrop
    rng = scene.generator("backdrop")
    x, y = canvas.image_x, canvas.image_y
    noise = Noise(rng)
    ramp = y * math.cos(backdrop.angle) + x * math.sin(backdrop.angle)
    ramp = smoothstep(-1.2, 1.2, ramp + 0.25 * noise(x * 1.3, y * 1.3))
    canvas.paint(np.ones_like(x), backdrop.top)
    canvas.paint(ramp, backdrop.bottom)
    painter = {"studio": _studio, "bokeh": _bokeh, "window": _window, "hills": _hills}
    painter[backdrop.kind](canvas, x, y, scene, rng)
    canvas.shade(0.38 * smoothstep(0.7, 1.7, np.hypot(x, y)))


def _studio(canvas: Canvas, x: Field, y: Field, scene: Scene, rng: np.random.Generator) -> None:
    cx, cy = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.1)
    glow = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) * 1.6)
    canvas.paint(0.5 * glow.astype(np.float32), scene.backdrop.accent)


def _bokeh(canvas: Canvas, x: Field, y: Field, scene: Scene, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(7, 14))):
        cx, cy, radius = rng.uniform(-1, 1), rng.uniform(-1, 0.7), rng.uniform(0.07, 0.2)
        strength = float(rng.uniform(0.12, 0.45))
        tint = [float(0.5 * c + 0.5 * rng.uniform(0.4, 1.0)) for c in scene.backdrop.accent]
        distance = np.hypot(x - np.float32(cx), y - np.float32(cy)) - np.float32(radius)
        disk = smoothstep(0.03, -0.02, distance) * (0.75 + 0.25 * smoothstep(-0.06, 0.0, distance))
        canvas.paint(strength * disk, tint)


def _window(canvas: Canvas, x: Field, y: Field, scene: Scene, rng: np.random.Generator) -> None:
    cx, side = rng.uniform(0.45, 0.8), 1.0 if rng.random() < 0.5 else -1.0
    dx = np.abs(x * side - np.float32(cx))
    pane = smoothstep(0.36, 0.24, dx) * smoothstep(0.75, 0.5, np.abs(y + 0.25))
    bars = 1.0 - 0.6 * np.exp(-((dx / 0.035) ** 2)) - 0.6 * np.exp(-(((y + 0.2) / 0.035) ** 2))
    tint = [0.35 + 0.6 * channel for channel in scene.backdrop.accent]
    canvas.paint(np.clip(0.75 * pane * bars, 0.0, 1.0), tint)


def _hills(canvas: Canvas, x: Field, y: Field, scene: Scene, rng: np.random.Generator) -> None:
    level = float(rng.uniform(-0.25, 0.25))
    for depth in range(3):
        phase, waves = rng.uniform(0.0, 6.0), rng.uniform(1.5, 3.5)
        ridge = level + 0.28 * depth + 0.12 * np.sin(x * np.float32(waves) + np.float32(phase))
        tint = [c * (0.85 - 0.22 * depth) for c in scene.backdrop.accent]
        canvas.paint(0.75 * smoothstep(-0.05, 0.05, y - ridge), tint)
