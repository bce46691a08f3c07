/** What a document looks like: its layers, bottom to top, into a clipped canvas. */

import { drawLevels } from "./images.js"

/** Paint that is marked only, in a color that skin and hair do not have. */
export const MASK_TINT = [255, 45, 120]
const MASK_ALPHA = 0.6 // of stripes
const RECOLOR_ALPHA = 0.85

/**
 * @typedef {object} Shown
 * @property {import("./view.js").View} view
 * @property {import("./images.js").Images} images
 * @property {import("./history.js").Work} work
 * @property {Record<string, {visible: boolean, opacity: number}>} layers
 * @property {Record<"paint"|"mask"|"overlay", import("./display_tiles.js").DisplayTiles|null>} displays   overlay: null when not shown
 * @property {ImageBitmap|null} preview
 * @property {number|null} compare
 */

/**
 * @param {CanvasRenderingContext2D} context   clipped to `dirty`
 * @param {import("./rect.js").Rect} dirty     in device pixels
 * @param {Shown} shown
 */
export function drawScene(context, dirty, shown) {
    const { view, compare } = shown
    context.imageSmoothingEnabled = view.isSmooth
    if (compare === null) return drawWork(context, dirty, shown)
    const middle = Math.round(view.left + compare * view.photoWidth * view.scale)
    clipped(context, dirty.x0, middle, dirty, () => drawLevels(context, shown.images.uploadLevels, view))
    clipped(context, middle, dirty.x1, dirty, () => drawWork(context, dirty, shown))
    return drawDivider(context, middle, view)
}

function clipped(context, x0, x1, dirty, draw) {
    if (x1 <= x0) return
    context.save()
    context.beginPath()
    context.rect(x0, dirty.y0, x1 - x0, dirty.y1 - dirty.y0)
    context.clip()
    draw()
    context.restore()
}

function drawWork(context, dirty, shown) {
    const { view, images, work, layers, displays, preview } = shown
    const resultLevels = work.result && layers.result.visible ? images.levels(work.result) : null
    // Until a base is decoded the upload stands in for it: the two differ where edits were.
    withLayer(context, layers.photo, () => drawLevels(context, images.levels(work.base) ?? images.uploadLevels, view))
    if (resultLevels) withLayer(context, layers.result, () => drawLevels(context, resultLevels, view))
    else if (!preview) {
        const drawPaint = () => withLayer(context, layers.paint, () => displays.paint.draw(context, view, dirty))
        // Paint is sent on top of what the color makes of the photo.
        if (!work.maskColor) drawPaint()
        withLayer(context, layers.mask, () => drawMask(context, dirty, shown))
        if (work.maskColor) drawPaint()
    }
    if (preview) drawPreview(context, preview, view)
    displays.overlay?.draw(context, view, dirty)
}

/** Previews have few pixels, which say nothing. */
function drawPreview(context, preview, view) {
    context.imageSmoothingEnabled = view.isSmooth || preview.width < view.photoWidth
    drawLevels(context, [preview], view)
    context.imageSmoothingEnabled = view.isSmooth
}

function withLayer(context, { visible, opacity }, draw) {
    if (!visible || opacity === 0) return
    context.globalAlpha = opacity
    draw()
    context.globalAlpha = 1
    context.globalCompositeOperation = "source-over"
}

/** A color for the mask recolors the photo, whose light and shade stay, as the edit will. */
function drawMask(context, dirty, { view, work, displays }) {
    context.globalAlpha *= work.maskColor ? RECOLOR_ALPHA : MASK_ALPHA
    if (work.maskColor) context.globalCompositeOperation = "color"
    displays.mask.draw(context, view, dirty)
}

function drawDivider(context, x, view) {
    const top = Math.max(0, view.top)
    const bottom = Math.min(view.height, view.top + view.photoHeight * view.scale)
    const half = Math.max(1, Math.round(view.ratio))
    context.fillStyle = "rgb(0 0 0 / 55%)"
    context.fillRect(x - 2 * half, top, 4 * half, bottom - top)
    context.fillStyle = "white"
    context.fillRect(x - half, top, 2 * half, bottom - top)
    context.beginPath()
    context.arc(x, (top + bottom) / 2, 14 * view.ratio, 0, 2 * Math.PI)
    context.fill()
    context.strokeStyle = "rgb(0 0 0 / 75%)"
    context.lineWidth = 2 * view.ratio
    for (const side of [-1, 1]) {
        context.beginPath()
        context.moveTo(x + side * 4 * view.ratio, (top + bottom) / 2 - 5 * view.ratio)
        context.lineTo(x + side * 9 * view.ratio, (top + bottom) / 2)
        context.lineTo(x + side * 4 * view.ratio, (top + bottom) / 2 + 5 * view.ratio)
        context.stroke()
    }
}
