/** How paint and mask become the RGBA of a display picture at a level of detail (see display_tiles.js). */

import { intersection, moved } from "./rect.js"
import { TILE } from "./grid.js"

/** Width of a stripe of marks without a color, in pixels of the display. */
const STRIPE = 8
/** How much of the tint the stripes between have. */
const BETWEEN = 0.35

/** Samples per side that make a pixel of a coarse level; more would not be seen. */
const SAMPLES = 4

/**
 * Call `fillTile` for every square with pixels under a rectangle of a level.
 *
 * @param {import("./grid.js").Grid} grid
 * @param {(index: number) => Uint8Array|null} pixels   of a square
 * @param {import("./rect.js").Rect} rect   in pixels of the level
 * @param {number} level
 * @param {(data: Uint8Array, inside: import("./rect.js").Rect, outAt: (y: number) => number) => void} fillTile
 *   `inside`: in the level's pixels of the square; `outAt(y)`: where the row's first pixel is in the output
 */
function forSquares(grid, pixels, rect, level, fillTile) {
    const shrink = 1 << level
    const side = TILE / shrink
    const inPhoto = { x0: rect.x0 * shrink, y0: rect.y0 * shrink, x1: rect.x1 * shrink, y1: rect.y1 * shrink }
    for (const index of grid.touched(inPhoto)) {
        const data = pixels(index)
        if (!data) continue
        const left = grid.left(index) / shrink
        const top = grid.top(index) / shrink
        const here = intersection(rect, { x0: left, y0: top, x1: left + side, y1: top + side })
        const width = rect.x1 - rect.x0
        const outAt = (y) => (y + top - rect.y0) * width + here.x0 - rect.x0
        fillTile(data, moved(here, -left, -top), outAt)
    }
}

/**
 * @param {import("./grid.js").Grid} grid
 * @param {(index: number) => Uint8Array|null} pixels   RGBA, not premultiplied
 * @returns {(out: Uint8ClampedArray, rect: import("./rect.js").Rect, level: number) => void}
 */
export function paintFill(grid, pixels) {
    return (out, rect, level) => {
        forSquares(grid, pixels, rect, level, (data, inside, outAt) => {
            for (let y = inside.y0; y < inside.y1; y++) {
                let to = 4 * outAt(y)
                if (level === 0) {
                    const from = 4 * (y * TILE + inside.x0)
                    out.set(data.subarray(from, from + 4 * (inside.x1 - inside.x0)), to)
                    continue
                }
                for (let x = inside.x0; x < inside.x1; x++, to += 4) averagePaint(data, x, y, level, out, to)
            }
        })
    }
}

/** Mean of a block, colors weighted by their alpha. */
function averagePaint(data, x, y, level, out, to) {
    const side = 1 << level
    const step = Math.max(1, side / SAMPLES)
    let [red, green, blue, alpha, count] = [0, 0, 0, 0, 0]
    for (let dy = step >> 1; dy < side; dy += step) {
        let at = 4 * ((y * side + dy) * TILE + x * side + (step >> 1))
        for (let dx = 0; dx < side; dx += step, at += 4 * step) {
            const weight = data[at + 3]
            red += data[at] * weight
            green += data[at + 1] * weight
            blue += data[at + 2] * weight
            alpha += weight
            count += 1
        }
    }
    if (alpha === 0) return
    out[to] = red / alpha
    out[to + 1] = green / alpha
    out[to + 2] = blue / alpha
    out[to + 3] = alpha / count
}

/**
 * @param {import("./grid.js").Grid} grid
 * @param {(index: number) => Uint8Array|null} pixels   one byte each
 * @param {() => number[]} tint   three bytes
 * @param {() => boolean} striped   as nothing in a photo is: so that the tint is not taken for a color to be
 */
export function maskFill(grid, pixels, tint, striped) {
    return (out, rect, level) => {
        const [red, green, blue] = tint()
        const between = striped() ? BETWEEN : 1
        const rectWidth = rect.x1 - rect.x0
        const side = 1 << level
        const step = Math.max(1, side / SAMPLES)
        forSquares(grid, pixels, rect, level, (data, inside, outAt) => {
            for (let y = inside.y0; y < inside.y1; y++) {
                let to = 4 * outAt(y)
                const row = Math.floor(outAt(y) / rectWidth)
                let diagonal = rect.x0 + rect.y0 + row + (outAt(y) - row * rectWidth)
                for (let x = inside.x0; x < inside.x1; x++, to += 4, diagonal++) {
                    let [sum, count] = [0, 0]
                    for (let dy = step >> 1; dy < side; dy += step) {
                        let at = (y * side + dy) * TILE + x * side + (step >> 1)
                        for (let dx = 0; dx < side; dx += step, at += step, count++) sum += data[at]
                    }
                    if (sum === 0) continue
                    out[to] = red
                    out[to + 1] = green
                    out[to + 2] = blue
                    out[to + 3] = (sum / count) * (diagonal % (2 * STRIPE) < STRIPE ? 1 : between)
                }
            }
        })
    }
}
