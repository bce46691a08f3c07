/** A document on a canvas: what is drawn, what pointers do, and the stroke under way. */

import { colorBytes, colorText } from "./color.js"
import { DisplayTiles } from "./display_tiles.js"
import { maskFill, paintFill } from "./layer_fills.js"
import { PointerInput } from "./pointer_input.js"
import { Renderer } from "./renderer.js"
import { drawScene, MASK_TINT } from "./scene.js"
import { Stroke, warmUp } from "./stroke.js"

const STROKE_TOOLS = ["brush", "erase", "mask", "unmask"]
const CURSORS = { eyedropper: "crosshair", pan: "grab", region: "pointer" }
/** A pen's light touch still leaves a mark. */
const LEAST_PRESSURE = 0.05

/**
 * @typedef {object} StageState   the document's, shared with it
 * @property {import("./grid.js").Grid} grid
 * @property {import("./history.js").History} history
 * @property {import("./images.js").Images} images
 * @property {import("./view.js").View} view
 * @property {string} tool
 * @property {string|null} held   another tool, as long as a key is held
 * @property {boolean} locked     the view can be moved, and no more
 * @property {import("./document.js").Brush} brush
 * @property {Record<string, import("./document.js").Layer>} layers
 * @property {boolean} overlay
 * @property {number|null} compare
 * @property {import("./labels.js").Labels|null} labels
 * @property {string|null} hovered
 * @property {ImageBitmap|null} preview
 *
 * @typedef {object} StageEvents
 * @property {() => void} beginStroke     before its first point: the work it starts from may change
 * @property {(layers: object, tool: string) => void} endStroke   with the layers it changed
 * @property {(region: string|null, x: number, y: number) => void} hover
 * @property {(region: string, add: boolean) => void} select
 * @property {(color: string) => void} pick
 * @property {(share: number) => void} compare
 * @property {(type: string, detail: object) => void} tell
 */

/** What the pointer does. @param {StageState} state @returns {string} */
export const activeTool = ({ tool, held, locked }) => (locked ? "pan" : (held ?? tool))

export class Stage {
    /** @type {Stroke|null} */
    #stroke = null
    #strokeTool = "brush"
    #pointer = null
    #oldestInput = null
    #sample = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true })

    /**
     * @param {HTMLCanvasElement} canvas
     * @param {StageState} state
     * @param {StageEvents} events
     */
    constructor(canvas, state, events) {
        this.canvas = canvas
        this.state = state
        this.events = events
        const { grid } = state
        const pixels = (layer) => (index) =>
            this.#stroke?.pixels(layer, index) ?? this.#work[layer][index]?.data ?? null
        const tint = () => (this.#work.maskColor ? colorBytes(this.#work.maskColor) : MASK_TINT)
        const display = (fill) => new DisplayTiles(grid.width, grid.height, fill)
        this.displays = {
            paint: display(paintFill(grid, pixels("paint"))),
            mask: display(maskFill(grid, pixels("mask"), tint, () => !this.#work.maskColor)),
            overlay: null,
        }
        this.labelsChanged()
        this.renderer = new Renderer(canvas, state.view, {
            prepare: () => this.#advance(false),
            draw: (context, dirty) => this.#draw(context, dirty),
            ring: () => this.#ring(),
            drawn: () => this.#drawn(),
        })
        this.input = new PointerInput(canvas, state.view, this.#actions())
        this.toolChanged()
        warmUp()
    }

    get #work() {
        return this.state.history.work
    }

    get painting() {
        return this.#stroke !== null
    }

    detach() {
        this.cancelStroke()
        this.renderer.detach()
        this.input.detach()
    }

    // --- What is drawn ----------------------------------------------------------------------------------------

    redraw() {
        this.renderer?.invalidate()
    }

    toolChanged() {
        this.canvas.style.cursor = CURSORS[activeTool(this.state)] ?? "none"
        if (this.state.compare !== null) this.canvas.style.cursor = "ew-resize"
        this.redraw()
    }

    labelsChanged() {
        const { labels, grid, overlay, hovered } = this.state
        const fill = labels?.overlayFill(() => ({ all: this.state.overlay, hovered: this.state.hovered }))
        this.displays.overlay = labels && (overlay || hovered) ? new DisplayTiles(grid.width, grid.height, fill) : null
        this.redraw()
    }

    /** Show another state of the work. @param {import("./history.js").Work} before @param {import("./history.js").Work} after */
    workChanged(before, after) {
        for (const layer of ["paint", "mask"]) {
            after[layer].forEach((tile, index) => {
                if (tile !== before[layer][index]) this.displays[layer].update(this.state.grid.rect(index))
            })
        }
        if (before.maskColor !== after.maskColor) this.displays.mask.clear()
        this.redraw()
    }

    #draw(context, dirty) {
        const { view, images, layers, preview, compare } = this.state
        drawScene(context, dirty, { view, images, work: this.#work, layers, displays: this.displays, preview, compare })
    }

    /** The brush's outline follows the mouse or pen. */
    #ring() {
        const { compare, view, brush } = this.state
        const tool = activeTool(this.state)
        if (!this.#pointer || !STROKE_TOOLS.includes(tool) || compare !== null) return null
        const { x, y } = this.#pointer
        return { x: x * view.ratio, y: y * view.ratio, radius: (brush.size / 2) * view.scale }
    }

    #drawn() {
        if (this.#oldestInput !== null) this.events.tell("frame", { input: this.#oldestInput })
        this.#oldestInput = null
        if (this.#stroke?.waiting) this.renderer.schedule()
    }

    // --- Strokes ----------------------------------------------------------------------------------------------

    #startStroke(eraser) {
        this.events.beginStroke()
        this.#strokeTool = eraser ? "erase" : this.state.tool
        this.#stroke = new Stroke(this.state.grid, this.#work, this.#strokeTool, this.state.brush)
        this.events.tell("stroke", { active: true })
    }

    #strokePoint(x, y, pressure, time) {
        if (!this.#stroke) return
        const { size, opacity, pressure: sets } = this.state.brush
        const press = Math.max(LEAST_PRESSURE, pressure)
        const [photoX, photoY] = this.state.view.toPhoto(x, y)
        const isMask = this.#strokeTool === "mask" || this.#strokeTool === "unmask"
        this.#stroke.add({
            x: photoX,
            y: photoY,
            radius: Math.max(0.5, (size / 2) * (sets === "size" ? press : 1)),
            opacity: isMask ? 1 : opacity * (sets === "opacity" ? press : 1),
            strength: sets === "strength" ? pressure : 1,
            time,
        })
        this.renderer.schedule()
    }

    /** Take over what the pointer did since the last frame. */
    #advance(all) {
        const oldest = this.#stroke?.advance(all, (layer, rect) => {
            this.displays[layer]?.update(rect)
            if (layer !== "restraint") this.renderer.invalidatePhoto(rect)
        })
        this.#oldestInput ??= oldest ?? null
    }

    #endStroke() {
        if (!this.#stroke) return
        this.#advance(true)
        const layers = this.#stroke.result()
        this.#stroke = null
        this.events.endStroke(layers, this.#strokeTool)
        this.events.tell("stroke", { active: false })
    }

    cancelStroke() {
        if (!this.#stroke) return
        const squares = this.#stroke.squares()
        this.#stroke = null
        for (const index of squares) {
            this.displays.paint.update(this.state.grid.rect(index))
            this.displays.mask.update(this.state.grid.rect(index))
        }
        this.redraw()
        this.events.tell("stroke", { active: false })
    }

    // --- Pointers ---------------------------------------------------------------------------------------------

    /** @returns {import("./pointer_input.js").Actions} */
    #actions() {
        return {
            mode: () => (this.state.compare !== null ? "compare" : this.#mode()),
            strokeStart: (eraser) => this.#startStroke(eraser),
            strokePoint: (...point) => this.#strokePoint(...point),
            strokeEnd: () => this.#endStroke(),
            strokeCancel: () => this.cancelStroke(),
            pick: (x, y) => this.#pick(x, y),
            select: (x, y, add) => {
                const region = this.#regionAt(x, y)
                if (region) this.events.select(region, add)
            },
            compareAt: (x) => {
                const [photoX] = this.state.view.toPhoto(x, 0)
                this.events.compare(Math.min(1, Math.max(0, photoX / this.state.grid.width)))
            },
            hover: (x, y, pointerType) => this.#hover(x, y, pointerType),
            leave: () => this.#leave(),
        }
    }

    #mode() {
        const tool = activeTool(this.state)
        return STROKE_TOOLS.includes(tool) ? "stroke" : tool
    }

    #regionAt(x, y) {
        return this.state.labels?.at(...this.state.view.toPhoto(x, y)) ?? null
    }

    #hover(x, y, pointerType) {
        this.#pointer = pointerType === "touch" ? null : { x, y }
        this.renderer.schedule()
        const isNaming = activeTool(this.state) === "region" || this.state.overlay
        if (this.state.labels && isNaming && !this.#stroke) this.events.hover(this.#regionAt(x, y), x, y)
    }

    #leave() {
        this.#pointer = null
        this.renderer.schedule()
        this.events.hover(null, 0, 0)
    }

    /** The color that is seen: of the photo or the result, and of the paint over it. */
    #pick(x, y) {
        const { view, images, layers, grid } = this.state
        const [photoX, photoY] = view.toPhoto(x, y).map(Math.floor)
        if (photoX < 0 || photoY < 0 || photoX >= grid.width || photoY >= grid.height) return
        const work = this.#work
        const resultLevels = work.result && layers.result.visible ? images.levels(work.result) : null
        const [image] = resultLevels ?? images.levels(work.base) ?? images.uploadLevels
        this.#sample.drawImage(image, photoX, photoY, 1, 1, 0, 0, 1, 1)
        if (!resultLevels && layers.paint.visible) {
            const pixel = new ImageData(1, 1)
            paintFill(grid, (index) => work.paint[index]?.data ?? null)(
                pixel.data,
                { x0: photoX, y0: photoY, x1: photoX + 1, y1: photoY + 1 },
                0,
            )
            this.#sample.fillStyle = `rgb(${pixel.data.slice(0, 3).join(" ")} / ${pixel.data[3] / 255})`
            this.#sample.fillRect(0, 0, 1, 1)
        }
        const seen = this.#sample.getImageData(0, 0, 1, 1).data
        this.events.pick(colorText(seen))
    }
}
