/**
 * What a stroke's coverage does to the pixels of one square. `before` is the square without the stroke (null: zeros),
 * `out` the square with it; only pixels of `rect` are written.
 */

import { TILE } from "./grid.js"

/** @param {import("./rect.js").Rect} rect @param {(at: number) => void} visit */
function forPixels(rect, visit) {
    for (let y = rect.y0; y < rect.y1; y++) {
        for (let at = y * TILE + rect.x0; at < y * TILE + rect.x1; at++) visit(at)
    }
}

/**
 * Lay a color over RGBA that is not premultiplied (Porter & Duff 1984, over).
 *
 * @param {Uint8Array|null} before
 * @param {Uint8Array} out
 * @param {Uint8Array} coverage
 * @param {import("./rect.js").Rect} rect
 * @param {number[]} color   three bytes
 */
export function blendPaint(before, out, coverage, rect, [red, green, blue]) {
    for (let y = rect.y0; y < rect.y1; y++) {
        for (let at = y * TILE + rect.x0; at < y * TILE + rect.x1; at++) {
            const cover = coverage[at]
            if (cover === 0) continue
            const pixel = 4 * at
            const below = before === null ? 0 : before[pixel + 3]
            if (below === 0 || cover === 255) {
                out[pixel] = red
                out[pixel + 1] = green
                out[pixel + 2] = blue
                out[pixel + 3] = cover
                continue
            }
            const alpha = cover + (below * (255 - cover)) / 255
            const share = cover / alpha
            out[pixel] = before[pixel] + (red - before[pixel]) * share + 0.5
            out[pixel + 1] = before[pixel + 1] + (green - before[pixel + 1]) * share + 0.5
            out[pixel + 2] = before[pixel + 2] + (blue - before[pixel + 2]) * share + 0.5
            out[pixel + 3] = alpha + 0.5
        }
    }
}

/**
 * Take paint away. Pixels without any become zeros, so that what is gone leaves no color behind.
 *
 * @param {Uint8Array} before
 * @param {Uint8Array} out
 * @param {Uint8Array} coverage
 * @param {import("./rect.js").Rect} rect
 */
export function erasePaint(before, out, coverage, rect) {
    forPixels(rect, (at) => {
        const pixel = 4 * at
        const alpha = Math.round((before[pixel + 3] * (255 - coverage[at])) / 255)
        out[pixel + 3] = alpha
        if (alpha === 0) out[pixel] = out[pixel + 1] = out[pixel + 2] = 0
    })
}

/**
 * The server takes a pixel of the mask or leaves it, so a stroke does too.
 *
 * @param {Uint8Array} out
 * @param {Uint8Array} coverage
 * @param {import("./rect.js").Rect} rect
 * @param {0|255} value
 */
export function setMask(out, coverage, rect, value) {
    forPixels(rect, (at) => {
        if (coverage[at] > 127) out[at] = value
    })
}

/**
 * Restraint is 255 - strength: an untouched layer of zeros is all of the strength.
 *
 * @param {Uint8Array|null} before
 * @param {Uint8Array} out
 * @param {Uint8Array} coverage
 * @param {Uint8Array|null} strength   that the stroke paints; null: all of it
 * @param {import("./rect.js").Rect} rect
 */
export function blendRestraint(before, out, coverage, strength, rect) {
    forPixels(rect, (at) => {
        const from = before ? before[at] : 0
        const to = strength ? 255 - strength[at] : 0
        out[at] = Math.round(from + ((to - from) * coverage[at]) / 255)
    })
}
