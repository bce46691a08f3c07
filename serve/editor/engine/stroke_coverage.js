/**
 * How much of every pixel a stroke covers.
 *
 * A stroke is a chain of capsules: all points within a radius of a line between two points. Of the coverages that
 * its parts give a pixel the largest counts, so that opacity is reached once, wherever a stroke crosses itself, and
 * there are no dabs that could show.
 */

import { TILE } from "./grid.js"
import { union } from "./rect.js"

/**
 * @typedef {object} StrokePoint
 * @property {number} x          in photo pixels
 * @property {number} y
 * @property {number} radius     in photo pixels
 * @property {number} opacity    0..1
 * @property {number} strength   0..1, what the stroke leaves in the strength map
 */

/** One square of coverage, and of strength where the stroke paints it. */
class CoverageTile {
    constructor(hasStrength) {
        this.coverage = new Uint8Array(TILE * TILE)
        this.strength = hasStrength ? new Uint8Array(TILE * TILE) : null
        /** Pixels that changed since they were last taken over. @type {import("./rect.js").Rect|null} */
        this.dirty = null
    }
}

export class StrokeCoverage {
    /** @type {Map<number, CoverageTile>} by the square's index */
    tiles = new Map()

    /**
     * @param {import("./grid.js").Grid} grid
     * @param {{hardness: number, hasStrength: boolean}} options
     */
    constructor(grid, { hardness, hasStrength }) {
        this.grid = grid
        this.hardness = hardness
        this.hasStrength = hasStrength
    }

    /** Cover what lies along a line. @param {StrokePoint} from @param {StrokePoint} to */
    addLine(from, to) {
        const reach = Math.max(from.radius, to.radius) + 0.5
        const box = {
            x0: Math.max(0, Math.floor(Math.min(from.x, to.x) - reach)),
            y0: Math.max(0, Math.floor(Math.min(from.y, to.y) - reach)),
            x1: Math.min(this.grid.width, Math.ceil(Math.max(from.x, to.x) + reach)),
            y1: Math.min(this.grid.height, Math.ceil(Math.max(from.y, to.y) + reach)),
        }
        if (box.x0 >= box.x1 || box.y0 >= box.y1) return
        for (const index of this.grid.touched(box)) {
            const left = this.grid.left(index)
            const top = this.grid.top(index)
            let tile = this.tiles.get(index)
            if (!tile) this.tiles.set(index, (tile = new CoverageTile(this.hasStrength)))
            const inside = {
                x0: Math.max(0, box.x0 - left),
                y0: Math.max(0, box.y0 - top),
                x1: Math.min(TILE, box.x1 - left),
                y1: Math.min(TILE, box.y1 - top),
            }
            const here = (point) => ({ ...point, x: point.x - left, y: point.y - top })
            const changed = coverLine(tile, here(from), here(to), inside, this.hardness)
            tile.dirty = union(tile.dirty, changed)
        }
    }
}

/**
 * Raise the coverage of a square's pixels to that of one capsule, radius and opacity running linearly along it.
 *
 * @param {CoverageTile} tile
 * @param {StrokePoint} from   relative to the square
 * @param {StrokePoint} to
 * @param {import("./rect.js").Rect} box   inside the square
 * @param {number} hardness
 * @returns {import("./rect.js").Rect|null}   the pixels that changed
 */
function coverLine(tile, from, to, box, hardness) {
    const { coverage, strength } = tile
    const dx = to.x - from.x
    const dy = to.y - from.y
    const perLength2 = dx || dy ? 1 / (dx * dx + dy * dy) : 0
    const growth = to.radius - from.radius
    const reach = Math.max(from.radius, to.radius) + 0.5
    // What has all that this line could give is passed over: most of a wide brush's next step. Never 0.
    const most = strength ? 256 : Math.max(1, (255 * Math.max(from.opacity, to.opacity) + 0.5) | 0)
    let [minX, minY, maxX, maxY] = [TILE, TILE, -1, -1]
    for (let y = box.y0; y < box.y1; y++) {
        const py = y + 0.5 - from.y
        const [start, end] = rowSpan(py, from.x, dx, dy, reach, box)
        for (let x = start, at = y * TILE + start; x < end; x++, at++) {
            if (coverage[at] >= most) continue
            const px = x + 0.5 - from.x
            const along = (px * dx + py * dy) * perLength2
            const t = along < 0 ? 0 : along > 1 ? 1 : along
            const ox = px - t * dx
            const oy = py - t * dy
            const distance2 = ox * ox + oy * oy
            const edge = from.radius + growth * t + 0.5
            if (distance2 >= edge * edge) continue
            // From the edge inwards the coverage rises over `width` pixels; at least one, against jagged edges.
            const width = Math.max(1, (edge - 0.5) * (1 - hardness))
            const core = edge - width
            let share = 1
            if (core < 0 || distance2 > core * core) {
                share = (edge - Math.sqrt(distance2)) / width
                share = share > 1 ? 1 : width > 1 ? share * share * (3 - 2 * share) : share
            }
            const value = (255 * share * (from.opacity + (to.opacity - from.opacity) * t) + 0.5) | 0
            if (value < coverage[at] || value === 0) continue
            if (strength) {
                const here = (255 * (from.strength + (to.strength - from.strength) * t) + 0.5) | 0
                if (value === coverage[at] && here <= strength[at]) continue
                strength[at] = here
            } else if (value === coverage[at]) continue
            coverage[at] = value
            if (x < minX) minX = x
            if (x > maxX) maxX = x
            if (y < minY) minY = y
            maxY = y
        }
    }
    return maxX < 0 ? null : { x0: minX, y0: minY, x1: maxX + 1, y1: maxY + 1 }
}

/** Columns of a row that a capsule can reach: around the part of its line that is near the row. */
function rowSpan(py, fromX, dx, dy, reach, box) {
    let [t0, t1] = [0, 1]
    if (dy !== 0) {
        const a = (py - reach) / dy
        const b = (py + reach) / dy
        t0 = Math.min(1, Math.max(0, Math.min(a, b)))
        t1 = Math.min(1, Math.max(0, Math.max(a, b)))
    }
    const a = fromX + t0 * dx
    const b = fromX + t1 * dx
    return [
        Math.max(box.x0, Math.floor(Math.min(a, b) - reach)),
        Math.min(box.x1, Math.ceil(Math.max(a, b) + reach)),
    ]
}
