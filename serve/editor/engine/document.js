/**
 * The document: one photo, what is painted on it, and every step that led there.
 *
 * The engine draws, paints and remembers. It sends nothing, says nothing to people (errors carry a
 * `code` and numbers; words are the interface's) and knows no framework.
 *
 *     import { openPhoto, EditorDocument } from "./engine/document.js"
 *     const doc = new EditorDocument(await openPhoto(file))
 *     doc.attach(canvas)
 *
 * Layers, bottom to top: photo (the base of the next edit), paint and mask or what was made of them (a visible
 * result, a preview), region overlay.
 *
 * Events (EventTarget; `event.detail` in braces):
 *   "change"     anything an interface may show has changed (tool, brush, layers, compare, preview, work)
 *   "history"    a step was made, undone or redone {label}
 *   "selection"  the selected regions changed {regions: string[]}
 *   "hover"      the pointer moves over regions, with the tool "region" or the overlay on, or leaves them
 *                {region: string|null, x, y} (x, y: CSS pixels in the canvas)
 *   "view"       zoomed, panned or resized {scale, fitted} (scale: device pixels per photo pixel)
 *   "color"      the eyedropper took a color {color}
 *   "stroke"     a stroke begins or ends {active}
 *   "frame"      a frame with new input was drawn {input} (timestamp of its oldest input event, ms)
 *   "trouble"    something in the background failed {error: EditorError}, say an image that cannot be decoded
 *
 * @typedef {"brush"|"erase"|"mask"|"unmask"|"eyedropper"|"pan"|"region"} Tool
 *   erase: back to the photo: takes away paint, mask and strength. mask, unmask: mark what may change;
 *   always hard and opaque, for a mask has no shades. region: click selects, shift-click adds or removes.
 *
 * @typedef {object} Brush
 * @property {number} size       diameter in photo pixels, 1..2000
 * @property {number} hardness   0 (soft from the center) .. 1 (sharp)
 * @property {number} opacity    0.01 .. 1, reached once per stroke: crossing oneself does not build up
 * @property {string} color      "#rrggbb"
 * @property {"none"|"size"|"opacity"|"strength"} pressure   what a pen's pressure sets; mice and fingers press fully
 *
 * @typedef {object} Layer
 * @property {boolean} visible
 * @property {number} opacity    0..1
 *
 * @typedef {object} Edit        what an edit request needs; every image has the photo's native size
 * @property {Blob} photo        the upload's own bytes, or those of the accepted result that became the base
 * @property {string} photoName
 * @property {Blob|null} mask    gray PNG, 0 or 255: marked and painted pixels; null when nothing is marked
 *                               (strokes then are their own mask) or when `regions` says the same
 * @property {string[]} regions  names, when the mask is exactly these regions and nothing is painted; else []
 * @property {Blob|null} strokes RGBA PNG, painted where alpha > 0, null when nothing is painted
 * @property {string|null} color "#rrggbb" for the whole mask, null with strokes (then it is in them)
 * @property {Blob|null} strengthMap  gray PNG, 255 = all of the strength; null when it is 255 everywhere
 * @property {boolean} empty     nothing is marked or painted: there is nothing to send
 *
 * @typedef {object} ResultMetadata  the server's metadata, kept as given; `exact === false` (JPEG) keeps a
 *                               result from becoming a base, for its other pixels are not the upload's
 */

import { EditorError } from "./errors.js"
import { Grid } from "./grid.js"
import { History } from "./history.js"
import { Images } from "./images.js"
import { Labels } from "./labels.js"
import { openPhoto } from "./photo.js"
import { decodeLabels, decodeLevels } from "./pixel_jobs.js"
import { activeTool, Stage } from "./stage.js"
import { DocumentStorage, forgetDocuments } from "./storage.js"
import { isEmpty } from "./tiles.js"
import { View } from "./view.js"
import * as works from "./work.js"

export { EditorError } from "./errors.js"
export { LIMITS, openPhoto } from "./photo.js"

const MAX_BRUSH_SIZE = 2000
const LAYERS = ["photo", "paint", "mask", "result"]
const SETTINGS = ["tool", "brush", "layers", "overlay"]

const clamp = (value, least, most) => Math.min(most, Math.max(least, value))

export class EditorDocument extends EventTarget {
    /** @type {import("./stage.js").StageState} */
    #state
    /** @type {Stage|null} */
    #stage = null
    #storage = new DocumentStorage()
    #tidying = false

    /** @param {import("./photo.js").OpenedPhoto} photo */
    constructor(photo) {
        super()
        this.name = photo.name
        this.width = photo.width
        this.height = photo.height
        /** @type {import("./images.js").DocumentImage} */
        this.upload = { blob: photo.bytes, type: photo.type, metadata: null }
        /** The interface's own state, as given to `save`. */
        this.extra = null
        /** Color that the first marks get, so that marking and coloring are one step; null: none. @type {string|null} */
        this.fillColor = null
        this.view = new View(photo.width, photo.height, () => this.#viewChanged())
        const grid = new Grid(photo.width, photo.height)
        this.#state = {
            grid,
            view: this.view,
            history: new History([{ label: null, work: works.emptyWork(grid, this.upload) }]),
            images: new Images(this.upload, photo.levels, {
                loaded: () => this.#changed(),
                failed: (error) => this.#tell("trouble", { error }),
            }),
            tool: "brush",
            held: null,
            locked: false,
            brush: { size: 40, hardness: 0.8, opacity: 1, color: "#8b3a1e", pressure: "none" },
            layers: Object.fromEntries(LAYERS.map((name) => [name, { visible: true, opacity: 1 }])),
            overlay: false,
            compare: null,
            labels: null,
            hovered: null,
            preview: null,
        }
    }

    /** Draw into this canvas and handle its pointer, pen, touch and wheel input. @param {HTMLCanvasElement} canvas */
    attach(canvas) {
        this.detach()
        this.#stage = new Stage(canvas, this.#state, {
            beginStroke: () => this.#beginStroke(),
            endStroke: (layers, tool) => this.#endStroke(layers, tool),
            hover: (region, x, y) => this.#hover(region, x, y),
            select: (region, add) => this.#select(region, add),
            pick: (color) => this.#pick(color),
            compare: (share) => (this.compare = share),
            tell: (type, detail) => this.#tell(type, detail),
        })
    }

    /** Let go of the canvas. */
    detach() {
        this.#stage?.detach()
        this.#stage = null
    }

    #tell(type, detail = {}) {
        this.dispatchEvent(new CustomEvent(type, { detail }))
    }

    #changed() {
        this.#stage?.redraw()
        this.#tell("change")
    }

    #viewChanged() {
        this.#stage?.redraw()
        this.#tell("view", { scale: this.view.scale, fitted: this.view.fitted })
    }

    get #work() {
        return this.#state.history.work
    }

    /** Make another state of the work the current one. */
    #step(work, label) {
        const before = this.#work
        const after = this.#withFill(work, label)
        this.#state.history.push(after, label)
        this.#stage?.workChanged(before, after)
        this.#report(before, label)
    }

    /** The first marks get the fill's color. */
    #withFill(work, label) {
        const isFirstMark = isEmpty(this.#work.mask) && !isEmpty(work.mask) && label !== "import"
        return isFirstMark ? { ...work, maskColor: this.fillColor } : work
    }

    /** Say what came after another state. */
    #report(before, label) {
        const after = this.#work
        this.#state.images.tidy([after.base, after.result])
        this.#tidy()
        this.#tell("history", { label })
        if (before.regions !== after.regions) this.#tell("selection", { regions: this.selectedRegions })
        this.#tell("change")
    }

    /** Pack what is not shown, until nothing is left or the document is closed. */
    async #tidy() {
        if (this.#tidying) return
        this.#tidying = true
        try {
            while (await this.#state.history.tidy());
        } catch (error) {
            this.#tell("trouble", { error })
        }
        this.#tidying = false
    }

    // --- Tools ------------------------------------------------------------------------------------------------

    /** @type {Tool} */
    get tool() {
        return this.#state.tool
    }

    set tool(tool) {
        this.#setTool({ tool })
    }

    /** What the pointer does now: the tool, unless another is held or the document is locked. @type {Tool} */
    get activeTool() {
        return activeTool(this.#state)
    }

    /** Another tool for as long as a key is held; null: none. @type {Tool|null} */
    get held() {
        return this.#state.held
    }

    set held(held) {
        this.#setTool({ held })
    }

    /** While it is, the pointer only moves the view; methods do what they always do. */
    get locked() {
        return this.#state.locked
    }

    set locked(locked) {
        this.#setTool({ locked })
    }

    #setTool(change) {
        this.cancelStroke()
        Object.assign(this.#state, change)
        if (this.#state.hovered) this.hoveredRegion = null
        this.#stage?.toolChanged()
        this.#changed()
    }

    /** A copy; what is set is merged: doc.brush = {size: 40}. @type {Brush} */
    get brush() {
        return { ...this.#state.brush }
    }

    set brush(change) {
        const brush = { ...this.#state.brush, ...change }
        brush.size = clamp(brush.size, 1, MAX_BRUSH_SIZE)
        brush.hardness = clamp(brush.hardness, 0, 1)
        brush.opacity = clamp(brush.opacity, 0.01, 1)
        this.#state.brush = brush
        this.#changed()
    }

    get painting() {
        return this.#stage?.painting ?? false
    }

    /** Give up the stroke under way, if any (Escape). */
    cancelStroke() {
        this.#stage?.cancelStroke()
    }

    #beginStroke() {
        this.clearPreview()
        this.#continueOnResult()
    }

    #endStroke(layers, tool) {
        if (Object.keys(layers).length === 0) return
        const before = this.#work
        const work = { ...before, ...layers, ...(layers.mask ? { maskIsRegions: false } : {}) }
        const after = this.#withFill(work, tool)
        this.#state.history.push(after, tool)
        if (after.maskColor !== before.maskColor) this.#stage?.workChanged(before, after)
        this.#report(before, tool) // the stage has shown the rest all along
    }

    #pick(color) {
        this.brush = { color }
        this.#tell("color", { color })
    }

    // --- Layers -----------------------------------------------------------------------------------------------

    /** A copy; what is set is merged: doc.layers = {paint: {visible: false}}. @type {Record<string, Layer>} */
    get layers() {
        return structuredClone(this.#state.layers)
    }

    set layers(change) {
        for (const name of LAYERS) this.#state.layers[name] = { ...this.#state.layers[name], ...change[name] }
        this.#changed()
    }

    /** Whether regions are drawn in color. */
    get overlay() {
        return this.#state.overlay
    }

    set overlay(shown) {
        this.#state.overlay = shown
        this.#stage?.labelsChanged()
        this.#changed()
    }

    /** How much of the width shows the upload, 0..1, null: nothing; dragging in the canvas moves it. */
    get compare() {
        return this.#state.compare
    }

    set compare(share) {
        const isOther = (share === null) !== (this.#state.compare === null)
        this.#state.compare = share === null ? null : clamp(share, 0, 1)
        if (isOther) this.#stage?.toolChanged()
        this.#changed()
    }

    get maskEmpty() {
        return isEmpty(this.#work.mask)
    }

    get paintEmpty() {
        return isEmpty(this.#work.paint)
    }

    // --- Regions ----------------------------------------------------------------------------------------------

    /**
     * The regions of `base`. They stay when the base changes; a mask of them is then sent as a mask, for the server
     * finds others in the new base.
     *
     * @param {{width: number, height: number, ids: Uint8Array, names: string[], colors?: string[]}|null} labels
     *   ids of the photo's size; names[id]; "background" is a region like the others; colors[id] "#rrggbb"
     * @throws {EditorError} "wrong-size"
     */
    setLabels(labels) {
        this.#state.labels = labels && new Labels(labels, this.#state.grid, this.base)
        this.#state.hovered = null
        this.#stage?.labelsChanged()
        this.#changed()
    }

    /**
     * What was set, with colors, and the base that it is of.
     *
     * @type {{width: number, height: number, ids: Uint8Array, names: string[], colors: string[], image: import("./images.js").DocumentImage}|null}
     */
    get labels() {
        return this.#state.labels
    }

    get selectedRegions() {
        return [...this.#work.regions]
    }

    /** @type {string|null} */
    get hoveredRegion() {
        return this.#state.hovered
    }

    set hoveredRegion(region) {
        if (region === this.#state.hovered) return
        this.#state.hovered = region
        this.#stage?.labelsChanged()
    }

    #hover(region, x, y) {
        this.hoveredRegion = region
        this.#tell("hover", { region, x, y })
    }

    /** Make the mask exactly these regions (undoable). @param {string[]} names */
    selectRegions(names) {
        if (!this.#state.labels) return
        this.#beginStroke()
        this.#step(works.withRegions(this.#work, this.#state.labels, names), "regions")
    }

    #select(region, add) {
        if (!add) return this.selectRegions([region])
        this.#beginStroke()
        return this.#step(works.withRegionToggled(this.#work, this.#state.labels, region), "regions")
    }

    /**
     * Paint the whole mask in this color: shown as a tint, sent as `color` (undoable). Another color of the same marks
     * is another edit of the same base, so a visible result stays what it is.
     *
     * @param {string|null} color
     */
    setMaskColor(color) {
        if (color === this.#work.maskColor) return
        this.#step({ ...this.#work, maskColor: color }, "mask-color")
    }

    /** @type {string|null} */
    get maskColor() {
        return this.#work.maskColor
    }

    /** Mark everything (undoable). */
    selectAll() {
        this.#beginStroke()
        this.#step(works.withMaskOf(this.#work, this.#state.grid, () => 255), "select-all")
    }

    /** Mark what is not marked, and the reverse (undoable). */
    invertMask() {
        this.#beginStroke()
        this.#step(works.withMaskOf(this.#work, this.#state.grid, (before) => 255 - before), "invert-mask")
    }

    /** Take the whole mask away (undoable). */
    clearMask() {
        if (!this.maskEmpty) this.#step(works.withoutMarks(this.#work, this.#state.grid), "clear-mask")
    }

    /** Take away all paint, and the strength painted with it (undoable). */
    clearPaint() {
        if (!this.paintEmpty) this.#step(works.withoutPaint(this.#work, this.#state.grid), "clear-paint")
    }

    // --- History ----------------------------------------------------------------------------------------------

    get canUndo() {
        return this.#state.history.position > 0
    }

    get canRedo() {
        return this.#state.history.position < this.#state.history.steps.length - 1
    }

    /**
     * "brush", "erase", "mask", "unmask", "regions", "mask-color", "select-all", "invert-mask", "clear-mask",
     * "clear-paint", "import", "result", "reject-result", "base"; null when there is nothing to undo.
     *
     * @type {string|null}
     */
    get undoLabel() {
        return this.#state.history.undoLabel
    }

    /** @type {string|null} */
    get redoLabel() {
        return this.#state.history.redoLabel
    }

    undo() {
        this.#goTo(-1)
    }

    redo() {
        this.#goTo(1)
    }

    #goTo(direction) {
        if (this.painting) return this.cancelStroke() // the newest step of all
        const { history } = this.#state
        if (direction < 0 ? !this.canUndo : !this.canRedo) return undefined
        const before = this.#work
        const label = direction < 0 ? history.undoLabel : history.redoLabel
        history.position += direction
        this.clearPreview()
        this.#stage?.workChanged(before, this.#work)
        return this.#report(before, label)
    }

    /** Memory of the history in bytes, what is shown included. */
    get historyBytes() {
        return this.#state.history.bytes
    }

    // --- Edits ------------------------------------------------------------------------------------------------

    /** What to send, encoded away from the painting thread. @returns {Promise<Edit>} */
    async exportEdit() {
        const work = this.#work
        return {
            photo: work.base.blob,
            photoName: this.name,
            ...(await works.exportLayers(work, this.#state.grid)),
        }
    }

    /**
     * Put an edit's marks and paint back, as of a recipe, in one step (undoable): the reverse of exportEdit without
     * its photo.
     *
     * @param {{mask: Blob|null, regions: string[], strokes: Blob|null, color: string|null, strengthMap: Blob|null}} edit
     * @throws {EditorError} "broken-image", "wrong-size"
     */
    async importEdit(edit) {
        const layers = await works.importLayers(edit, this.#state.grid)
        this.#beginStroke()
        const work = { ...this.#work, ...layers }
        const { labels } = this.#state
        const isOfRegions = labels && !edit.mask && edit.regions.length > 0
        this.#step(isOfRegions ? works.withRegions(work, labels, edit.regions) : work, "import")
    }

    /**
     * Show an image over everything, say while the server denoises; it is not part of the history.
     *
     * @param {ImageBitmap} bitmap   of any size, stretched over the photo; closed when the next one comes
     */
    showPreview(bitmap) {
        this.#state.preview?.close()
        this.#state.preview = bitmap
        this.#changed()
    }

    clearPreview() {
        if (!this.#state.preview) return
        this.#state.preview.close()
        this.#state.preview = null
        this.#changed()
    }

    /** The accepted one. @type {import("./images.js").DocumentImage|null} */
    get result() {
        return this.#work.result
    }

    /** What the next edit is sent. @type {import("./images.js").DocumentImage} */
    get base() {
        return this.#work.base
    }

    /**
     * Put a server's result over the photo (undoable). Painting or selecting on a visible result makes it the base
     * in a step of its own before: accepted work is built on. Hide the result layer to go on with the old paint.
     *
     * @param {Blob} blob  an image file of the photo's size
     * @param {ResultMetadata} metadata
     * @returns {Promise<void>} fulfilled when it is decoded and shown
     * @throws {EditorError} "broken-image", "wrong-size"
     */
    async acceptResult(blob, metadata) {
        const levels = await decodeLevels(blob)
        const { width, height } = levels[0]
        if (width !== this.width || height !== this.height) {
            levels.forEach((level) => level.close())
            throw new EditorError("wrong-size", { width, height, expected: { width: this.width, height: this.height } })
        }
        const result = { blob, type: blob.type, metadata }
        this.cancelStroke()
        this.#state.images.put(result, levels)
        this.#state.layers.result = { ...this.#state.layers.result, visible: true }
        this.clearPreview()
        this.#step({ ...this.#work, result }, "result")
    }

    /** Take the accepted result away again, and any preview (undoable). */
    rejectResult() {
        this.clearPreview()
        if (this.#work.result) this.#step({ ...this.#work, result: null }, "reject-result")
    }

    /** Build on the result: its bytes are sent from now on, paint and mask start empty (undoable). @throws {EditorError} "inexact-base" */
    useResultAsBase() {
        if (!this.#work.result) return
        if (!works.isExact(this.#work)) throw new EditorError("inexact-base")
        this.#step(works.onResult(this.#work, this.#state.grid), "base")
    }

    #continueOnResult() {
        if (!this.#work.result || !this.#state.layers.result.visible) return
        if (works.isExact(this.#work)) this.useResultAsBase()
        else this.layers = { result: { visible: false } } // it cannot be built on; show what can
    }

    /** The current image: the visible result's, or the base's; a server's bytes as they came. @type {import("./images.js").DocumentImage} */
    get current() {
        const { result, base } = this.#work
        return result && this.#state.layers.result.visible ? result : base
    }

    /** Its bytes, never encoded anew. @returns {Blob} */
    downloadBlob() {
        return this.current.blob
    }

    // --- Storage ----------------------------------------------------------------------------------------------

    /**
     * Keep photo, layers, results and the whole history in IndexedDB; only what is new is written. Call it after
     * "history" events.
     *
     * @param {unknown} [extra]  the interface's own state, anything structured clone takes; as before when left out
     * @returns {Promise<boolean>} whether another page has saved since this one did: its work is replaced
     * @throws {EditorError} "storage-full", "storage-unavailable"
     */
    async save(extra = this.extra) {
        this.extra = extra
        const { name, width, height, upload } = this
        return await this.#storage.save(() => {
            const { history, labels } = this.#state
            const { steps, position } = history
            const settings = Object.fromEntries(SETTINGS.map((key) => [key, this.#state[key]]))
            const photo = { name, width, height }
            const [plain, labelsImage] = labels ? [labels.plain, labels.image] : [null, null]
            return { photo, upload, steps, position, labels: plain, labelsImage, settings, extra: this.extra }
        })
    }

    /** What was saved last, or null; `extra` is the interface's state. @returns {Promise<EditorDocument|null>} @throws {EditorError} */
    static async restore() {
        const storage = new DocumentStorage()
        const stored = await storage.restore()
        if (!stored) return null
        const doc = new EditorDocument({ ...(await openPhoto(stored.upload.blob)), name: stored.photo.name })
        doc.#storage = storage
        doc.upload = doc.#state.images.upload = stored.upload
        doc.extra = stored.extra
        doc.#state.history = new History(stored.steps, stored.position)
        for (const key of SETTINGS) doc.#state[key] = stored.settings[key]
        if (stored.labels) doc.#state.labels = new Labels(stored.labels, doc.#state.grid, stored.labelsImage)
        return doc
    }

    /** Forget what was saved. */
    static async forget() {
        await forgetDocuments()
    }

    /** Free bitmaps and the canvas; the document is not used after. */
    close() {
        this.detach()
        this.#state.preview?.close()
        this.#state.images.close()
    }
}

/**
 * Turn a segment request's PNG (one channel of region ids, exact) into what setLabels takes, in a worker.
 *
 * @param {Blob} blob
 * @param {string[]} names   names[id]
 * @returns {Promise<{width: number, height: number, ids: Uint8Array, names: string[]}>}
 * @throws {EditorError} "broken-image"
 */
export async function readLabels(blob, names) {
    return { ...(await decodeLabels(blob)), names }
}
