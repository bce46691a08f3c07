/** A stroke under way: from points of a pointer to new squares of the layers it touches. */

import { colorBytes } from "./color.js"
import { Grid, TILE } from "./grid.js"
import { samePixels, tileOf } from "./tiles.js"
import { StrokeCoverage } from "./stroke_coverage.js"
import { blendPaint, blendRestraint, erasePaint, setMask } from "./stroke_blending.js"

/**
 * @typedef {import("./stroke_coverage.js").StrokePoint} StrokePoint
 * @typedef {"paint"|"mask"|"restraint"} LayerName
 */

/** Points nearer than this share of the radius add nothing that could be seen. */
const SPACING = 0.15
/** Work on one frame's input; what is left over comes with the next frame, so that none is late. */
const FRAME_BUDGET_MS = 14

export class Stroke {
    /** Squares as they are with the stroke, by layer and index. @type {Record<LayerName, Map<number, Uint8Array>>} */
    #changed = { paint: new Map(), mask: new Map(), restraint: new Map() }
    #queue = []
    /** @type {StrokePoint|null} the last point taken */
    #last = null
    /** @type {StrokePoint|null} where the smoothed line ends: half-way between the last two points */
    #end = null
    #trailing = null

    /**
     * @param {import("./grid.js").Grid} grid
     * @param {Record<LayerName, import("./tiles.js").Tiles>} layers   as they were before
     * @param {"brush"|"erase"|"mask"|"unmask"} tool
     * @param {{hardness: number, color: string, pressure: string}} brush
     */
    constructor(grid, layers, tool, brush) {
        this.layers = layers
        this.tool = tool
        const isMask = tool === "mask" || tool === "unmask"
        this.color = colorBytes(brush.color)
        this.coverage = new StrokeCoverage(grid, {
            hardness: isMask ? 1 : brush.hardness,
            hasStrength: tool === "brush" && brush.pressure === "strength",
        })
        this.grid = grid
    }

    /** @param {StrokePoint & {time: number}} point   time: of the input event, ms */
    add(point) {
        this.#queue.push(point)
    }

    get waiting() {
        return this.#queue.length > 0
    }

    /**
     * Take over waiting points.
     *
     * @param {boolean} all   without regard to time: the stroke ends
     * @param {(layer: LayerName, rect: import("./rect.js").Rect) => void} onChange   of the photo
     * @returns {number|undefined}   when the oldest of them happened, ms
     */
    advance(all, onChange) {
        const deadline = performance.now() + FRAME_BUDGET_MS
        let taken = 0
        while (taken < this.#queue.length && (all || performance.now() < deadline)) {
            this.#take(this.#queue[taken])
            taken += 1
        }
        const [oldest] = this.#queue.splice(0, taken)
        if (all) this.#finishLine()
        this.#blend(onChange)
        return oldest?.time
    }

    /** Follow the pointer along curves through the middles of its steps, so that fast strokes have no corners. */
    #take(point) {
        if (!this.#last) {
            this.coverage.addLine(point, point)
            this.#last = this.#end = point
            return
        }
        const step = Math.hypot(point.x - this.#last.x, point.y - this.#last.y)
        this.#trailing = point
        if (step < Math.max(0.5, SPACING * point.radius)) return
        const middle = between(this.#last, point, 0.5)
        const pieces = Math.min(8, Math.max(1, Math.ceil(step / Math.max(3, 0.5 * point.radius))))
        let from = this.#end
        for (let piece = 1; piece <= pieces; piece++) {
            const t = piece / pieces
            const to = between(between(this.#end, this.#last, t), between(this.#last, middle, t), t)
            this.coverage.addLine(from, to)
            from = to
        }
        this.#last = point
        this.#end = middle
        this.#trailing = null
    }

    #finishLine() {
        if (!this.#last) return
        this.coverage.addLine(this.#end, this.#last)
        if (this.#trailing) this.coverage.addLine(this.#last, this.#trailing)
    }

    #blend(onChange) {
        for (const [index, tile] of this.coverage.tiles) {
            if (!tile.dirty) continue
            const dirty = tile.dirty
            tile.dirty = null
            const left = this.grid.left(index)
            const top = this.grid.top(index)
            const where = { x0: dirty.x0 + left, y0: dirty.y0 + top, x1: dirty.x1 + left, y1: dirty.y1 + top }
            for (const layer of this.#touchedLayers(index)) {
                this.#blendTile(layer, index, tile, dirty)
                onChange(layer, where)
            }
        }
    }

    /** @returns {LayerName[]} */
    #touchedLayers(index) {
        const exists = (layer) => this.layers[layer][index] !== null
        if (this.tool === "mask") return ["mask"]
        if (this.tool === "unmask") return exists("mask") ? ["mask"] : []
        if (this.tool === "erase") return ["paint", "mask", "restraint"].filter(exists)
        return this.coverage.hasStrength || exists("restraint") ? ["paint", "restraint"] : ["paint"]
    }

    #blendTile(layer, index, { coverage, strength }, dirty) {
        const before = this.layers[layer][index]?.data ?? null
        let out = this.#changed[layer].get(index)
        if (!out) {
            out = before ? before.slice() : new Uint8Array(TILE * TILE * (layer === "paint" ? 4 : 1))
            this.#changed[layer].set(index, out)
        }
        const isBrush = this.tool === "brush"
        if (layer === "mask") setMask(out, coverage, dirty, this.tool === "mask" ? 255 : 0)
        else if (layer === "restraint") blendRestraint(before, out, coverage, isBrush ? strength : null, dirty)
        else if (isBrush) blendPaint(before, out, coverage, dirty, this.color)
        else erasePaint(before, out, coverage, dirty)
    }

    /** A square's pixels with the stroke; undefined where it has none. @param {LayerName} layer @param {number} index */
    pixels(layer, index) {
        return this.#changed[layer].get(index)
    }

    /** Indexes of the squares it has touched. @returns {number[]} */
    squares() {
        return [...this.coverage.tiles.keys()]
    }

    /**
     * The layers with the stroke.
     *
     * @returns {Partial<Record<LayerName, import("./tiles.js").Tiles>>}  those that differ from before
     */
    result() {
        const result = {}
        for (const [layer, squares] of Object.entries(this.#changed)) {
            const tiles = this.layers[layer].slice()
            let differs = false
            for (const [index, data] of squares) {
                const before = tiles[index]
                if (before && samePixels(before.data, data)) continue
                tiles[index] = tileOf(data)
                differs ||= tiles[index] !== before
            }
            if (differs) result[layer] = tiles
        }
        return result
    }
}

/** @param {StrokePoint} a @param {StrokePoint} b @param {number} t */
function between(a, b, t) {
    const mix = (from, to) => from + (to - from) * t
    return {
        x: mix(a.x, b.x),
        y: mix(a.y, b.y),
        radius: mix(a.radius, b.radius),
        opacity: mix(a.opacity, b.opacity),
        strength: mix(a.strength, b.strength),
    }
}

/**
 * Paint where nobody sees it while the page is idle: the browser compiles what it runs often, and the first real
 * stroke is as quick as the next ones.
 */
export function warmUp() {
    const grid = new Grid(TILE, TILE)
    const layers = { paint: grid.empty(), mask: grid.empty(), restraint: grid.empty() }
    const brush = { hardness: 0.5, color: "#808080", pressure: "none" }
    const stroke = new Stroke(grid, layers, "brush", brush)
    let steps = 0
    const paint = (deadline) => {
        while (steps < 80 && deadline.timeRemaining() > 4) {
            const [x, y] = [TILE / 2 + 90 * Math.cos(steps), TILE / 2 + 90 * Math.sin(1.7 * steps)]
            stroke.add({ x, y, radius: 30, opacity: (1 + steps) / 80, strength: 1, time: 0 })
            stroke.advance(false, () => {})
            steps += 1
        }
        if (steps < 80) requestIdleCallback(paint)
    }
    requestIdleCallback(paint)
}
