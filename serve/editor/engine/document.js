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
 * Layers, bottom to top: photo (the base of the next edit), result, paint, mask, region overlay, preview.
 * A preview and a visible result hide paint and mask, which they have taken up.
 *
 * Events (EventTarget; `event.detail` in braces):
 *   "change"     anything an interface may show has changed (tool, brush, layers, compare, preview, work)
 *   "history"    a step was made, undone or redone {label}
 *   "selection"  the selected regions changed {regions: string[]}
 *   "hover"      the pointer is over another region {region: string|null, x, y} (x, y: CSS pixels in the canvas)
 *   "view"       zoomed, panned or resized {scale, fitted} (scale: device pixels per photo pixel)
 *   "color"      the eyedropper took a color {color}
 *   "stroke"     a stroke begins or ends {active}
 *   "frame"      a frame with new input was drawn {input} (timestamp of its oldest input event, ms)
 *   "trouble"    something in the background failed {error: EditorError}, say an image that cannot be decoded
 *
 * @typedef {object} OpenedPhoto
 * @property {Blob} bytes      the file's own bytes, copied at once: a file that changes later does no harm
 * @property {"image/jpeg"|"image/png"|"image/webp"} type   by its content, not by its name
 * @property {string} name     file name as given; text from outside
 * @property {number} width    of the upright photo
 * @property {number} height
 * @property {ImageBitmap} bitmap   upright (EXIF)
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
 *
 * @typedef {object} DocumentImage
 * @property {Blob} blob         the bytes as they came
 * @property {string} type       media type
 * @property {ResultMetadata|null} metadata   null for the upload
 */

/**
 * A problem that an interface puts into words.
 *
 * code: "not-an-image" {}, "unsupported-type" {found}, "too-many-bytes" {bytes, limit},
 * "too-many-pixels" {width, height, limit}, "too-small" {width, height, limit}, "broken-image" {},
 * "wrong-size" {width, height, expected}, "inexact-base" {}, "storage-full" {}, "storage-unavailable" {}.
 */
export class EditorError extends Error {
    /**
     * @param {string} code
     * @param {object} [details]
     */
    constructor(code, details = {}) {
        super(code)
        this.name = "EditorError"
        this.code = code
        Object.assign(this, details)
    }
}

/** What the gateway takes (serve/gateway/gateway.yaml). */
export const LIMITS = { bytes: 32505856, pixels: 36000000, minSide: 8 }

/**
 * Read and decode a JPEG, PNG or WebP file, upright. Limits are checked before it is decoded.
 *
 * @param {Blob} file
 * @param {{bytes: number, pixels: number, minSide: number}} [limits]
 * @returns {Promise<OpenedPhoto>}
 * @throws {EditorError}
 */
export async function openPhoto(file, limits = LIMITS) {}

export class EditorDocument extends EventTarget {
    /** @param {OpenedPhoto} photo */
    constructor(photo) { super() }

    // The photo as opened: name (text from outside), width, height, upload (a DocumentImage).

    /** Draw into this canvas and handle its pointer, pen, touch and wheel input. @param {HTMLCanvasElement} canvas */
    attach(canvas) {}
    /** Let go of the canvas. */
    detach() {}

    // --- Tools ------------------------------------------------------------------------------------------------
    // doc.tool: Tool (get, set). doc.brush: Brush (get a copy; setting merges: doc.brush = {size: 40}).
    // doc.painting: boolean, a stroke is under way.
    /** Give up the stroke under way, if any (Escape). */
    cancelStroke() {}

    // --- Layers -----------------------------------------------------------------------------------------------
    // doc.layers: {photo, paint, mask, result: Layer} (get a copy; setting merges: doc.layers = {paint: {visible: false}}).
    // doc.overlay: boolean, regions are drawn in color. doc.compare: null | 0..1, how much of the width shows
    // the upload; dragging in the canvas moves it. doc.maskEmpty, doc.paintEmpty: boolean.

    // --- Regions ----------------------------------------------------------------------------------------------
    /**
     * @param {{width: number, height: number, ids: Uint8Array, names: string[], colors?: string[]}|null} labels
     *   ids of the photo's size; names[id]; "background" is a region like the others; colors[id] "#rrggbb"
     */
    setLabels(labels) {}
    // doc.labels: as set, with colors. doc.selectedRegions: string[]. doc.hoveredRegion: string|null (set it from a legend).
    /** Make the mask exactly these regions (undoable). @param {string[]} names */
    selectRegions(names) {}
    /** Paint the whole mask in this color: shown as a tint, sent as `color` (undoable). @param {string|null} color */
    setMaskColor(color) {}
    // doc.maskColor: string|null.
    /** Mark everything (undoable). */
    selectAll() {}
    /** Mark what is not marked, and the reverse (undoable). */
    invertMask() {}
    /** Take the whole mask away (undoable). */
    clearMask() {}
    /** Take away all paint, and the strength painted with it (undoable). */
    clearPaint() {}

    // --- View -------------------------------------------------------------------------------------------------
    // doc.view.zoomIn() zoomOut() fit() actual(); view.scale (device pixels per photo pixel), view.fitted;
    // view.panBy(dx, dy) (CSS pixels); view.toPhoto(x, y) and view.toCanvas(x, y) (CSS pixels in the canvas).

    // --- History ----------------------------------------------------------------------------------------------
    // doc.canUndo, doc.canRedo: boolean; doc.undoLabel, doc.redoLabel: string|null: "brush", "erase", "mask",
    // "unmask", "regions", "mask-color", "select-all", "invert-mask", "clear-mask", "clear-paint",
    // "result", "reject-result", "base".
    undo() {}
    redo() {}

    // --- Edits ------------------------------------------------------------------------------------------------
    /** What to send, encoded away from the painting thread. @returns {Promise<Edit>} */
    async exportEdit() {}
    /**
     * Put an edit's marks and paint back, as of a recipe, in one step (undoable, label "import"): the reverse of
     * exportEdit without its photo. Requested by the interface, for the import of recipes.
     * @param {{mask: Blob|null, regions: string[], strokes: Blob|null, color: string|null, strengthMap: Blob|null}} edit
     * @throws {EditorError} "broken-image", "wrong-size"
     */
    async importEdit(edit) {}
    /** Show an image over everything, say while the server denoises; it is not part of the history. @param {ImageBitmap} bitmap of any size, stretched over the photo */
    showPreview(bitmap) {}
    clearPreview() {}
    // doc.result: DocumentImage|null, the accepted one. doc.base: DocumentImage, what the next edit is sent.
    /**
     * Put a server's result over the photo (undoable). Painting or selecting on a visible result makes it
     * the base in the same step: accepted work is built on. Hide the result layer to go on with the old paint.
     * @param {Blob} blob  an image file of the photo's size
     * @param {ResultMetadata} metadata
     * @returns {Promise<void>} fulfilled when it is decoded and shown
     * @throws {EditorError} "broken-image", "wrong-size"
     */
    async acceptResult(blob, metadata) {}
    /** Take the accepted result away again, and any preview (undoable). */
    rejectResult() {}
    /** Build on the result: its bytes are sent from now on, paint and mask start empty (undoable). @throws {EditorError} "inexact-base" */
    useResultAsBase() {}
    /** The current image: the result's, base's or upload's own bytes, never encoded anew. @returns {Blob} */
    downloadBlob() {}
    // doc.current: DocumentImage, the same with its type and metadata.

    // --- Storage ----------------------------------------------------------------------------------------------
    /**
     * Keep photo, layers, results and the whole history in IndexedDB; only what is new is written. Cheap when
     * nothing has changed; call it after "history" events.
     * @param {object} [extra]  the interface's own state, anything structured clone takes
     * @throws {EditorError} "storage-full", "storage-unavailable"
     */
    async save(extra) {}
    /** What was saved last, or null. `doc.extra` is the interface's state. @returns {Promise<EditorDocument|null>} */
    static async restore() {}
    /** Forget what was saved. */
    static async forget() {}
    /** Free bitmaps and the canvas; the document is not used after. */
    close() {}
}

/**
 * Turn a segment request's PNG (one channel of region ids, exact) into what setLabels takes, in a worker.
 *
 * @param {Blob} blob
 * @param {string[]} names   names[id]
 * @returns {Promise<{width: number, height: number, ids: Uint8Array, names: string[]}>}
 * @throws {EditorError} "broken-image"
 */
export async function readLabels(blob, names) {}
