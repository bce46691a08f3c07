/** Draws a scene into a canvas, once a frame and only where it has changed. Rectangles are in device pixels. */

import { around, intersection, union } from "./rect.js"

/** More device pixels per CSS pixel than this cost time and show nothing. */
const MAX_RATIO = 2

/**
 * @typedef {object} Scene
 * @property {() => void} prepare    before a frame is drawn; may invalidate
 * @property {(context: CanvasRenderingContext2D, dirty: import("./rect.js").Rect) => void} draw   clipped to dirty
 * @property {() => {x: number, y: number, radius: number}|null} ring   of the brush, in device pixels
 * @property {() => void} drawn      after a frame
 */

export class Renderer {
    #dirty = null
    #frame = 0
    #ring = null

    /**
     * @param {HTMLCanvasElement} canvas
     * @param {import("./view.js").View} view
     * @param {Scene} scene
     */
    constructor(canvas, view, scene) {
        this.canvas = canvas
        this.view = view
        this.scene = scene
        this.context = canvas.getContext("2d")
        this.observer = new ResizeObserver(() => this.#resize())
        this.observer.observe(canvas)
        this.#resize()
    }

    detach() {
        this.observer.disconnect()
        cancelAnimationFrame(this.#frame)
    }

    #resize() {
        const ratio = Math.min(MAX_RATIO, window.devicePixelRatio || 1)
        const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio))
        const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio))
        if (width === this.canvas.width && height === this.canvas.height && ratio === this.view.ratio) return
        this.canvas.width = width
        this.canvas.height = height
        this.view.resize(width, height, ratio)
        this.invalidate()
        this.#draw() // at once: a canvas that has been resized is empty
    }

    /** Draw anew. @param {import("./rect.js").Rect} [rect]  everything when left out */
    invalidate(rect = { x0: 0, y0: 0, x1: this.canvas.width, y1: this.canvas.height }) {
        this.#dirty = union(this.#dirty, rect)
        this.schedule()
    }

    /** @param {import("./rect.js").Rect} rect   in photo pixels */
    invalidatePhoto({ x0, y0, x1, y1 }) {
        const { scale, left, top } = this.view
        // Coarse levels of detail mix neighbors, and smoothing reaches one pixel further.
        const reach = Math.max(2, 2 / scale)
        const near = (at) => at * scale
        this.invalidate(
            around(
                left + near(x0 - reach),
                top + near(y0 - reach),
                left + near(x1 + reach),
                top + near(y1 + reach),
            ),
        )
    }

    schedule() {
        this.#frame ||= requestAnimationFrame(() => this.#draw())
    }

    #draw() {
        cancelAnimationFrame(this.#frame)
        this.#frame = 0
        this.scene.prepare()
        const ring = this.scene.ring()
        const before = ringRect(this.#ring)
        const after = ringRect(ring)
        const rings = sameRing(ring, this.#ring) ? null : union(before, after)
        const everything = { x0: 0, y0: 0, x1: this.canvas.width, y1: this.canvas.height }
        const wanted = union(this.#dirty, rings)
        const dirty = wanted && intersection(wanted, everything)
        this.#dirty = null
        this.#ring = ring
        if (dirty) this.#drawInside(dirty, ring)
        this.scene.drawn()
    }

    #drawInside(dirty, ring) {
        const { context } = this
        context.save()
        context.beginPath()
        context.rect(dirty.x0, dirty.y0, dirty.x1 - dirty.x0, dirty.y1 - dirty.y0)
        context.clip()
        context.clearRect(dirty.x0, dirty.y0, dirty.x1 - dirty.x0, dirty.y1 - dirty.y0)
        this.scene.draw(context, dirty)
        if (ring) drawRing(context, ring, this.view.ratio)
        context.restore()
    }
}

function ringRect(ring) {
    if (!ring) return null
    const reach = ring.radius + 4
    return around(ring.x - reach, ring.y - reach, ring.x + reach, ring.y + reach)
}

function sameRing(a, b) {
    return a === b || (a && b && a.x === b.x && a.y === b.y && a.radius === b.radius)
}

/** Dark and light, to be seen on every photo. */
function drawRing(context, { x, y, radius }, ratio) {
    for (const [color, width] of [["rgb(0 0 0 / 70%)", 2.5], ["rgb(255 255 255 / 95%)", 1]]) {
        context.beginPath()
        context.arc(x, y, Math.max(1, radius), 0, 2 * Math.PI)
        context.strokeStyle = color
        context.lineWidth = width * ratio
        context.stroke()
    }
}
