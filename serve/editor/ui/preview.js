/** The model's square, laid over the photo where it will be: only what is marked shows it. */

const LONG_SIDE = 1024 // pixels: previews are small, and are looked at for a moment

/**
 * Prepare to show previews of one edit.
 *
 * @param {import("../engine/document.js").EditorDocument} doc
 * @param {import("../engine/document.js").Edit} edit
 * @returns {Promise<(preview: Blob, crop: number[]) => Promise<ImageBitmap>>}
 */
export async function previewComposer(doc, edit) {
    const scale = Math.min(1, LONG_SIDE / Math.max(doc.width, doc.height))
    const width = Math.max(1, Math.round(doc.width * scale))
    const height = Math.max(1, Math.round(doc.height * scale))
    const mask = await alphaMask(doc, edit, width, height)
    const canvas = new OffscreenCanvas(width, height)
    const context = canvas.getContext("2d")
    return async (preview, crop) => {
        const square = await createImageBitmap(preview)
        const [left, top, right, bottom] = crop.map((value) => value * scale)
        context.globalCompositeOperation = "copy"
        context.imageSmoothingQuality = "high"
        context.drawImage(square, left, top, right - left, bottom - top)
        context.globalCompositeOperation = "destination-in"
        context.drawImage(mask, 0, 0)
        square.close()
        return createImageBitmap(canvas)
    }
}

/** @returns {Promise<OffscreenCanvas>} opaque where the edit may change something */
async function alphaMask(doc, edit, width, height) {
    const canvas = new OffscreenCanvas(width, height)
    const context = canvas.getContext("2d", { willReadFrequently: true })
    const source = edit.mask ?? edit.strokes
    if (source) {
        const bitmap = await createImageBitmap(source)
        context.drawImage(bitmap, 0, 0, width, height)
        bitmap.close()
    }
    if (source && source === edit.strokes) return canvas // paint is its own mask
    const pixels = context.getImageData(0, 0, width, height)
    const { data } = pixels
    if (edit.mask) {
        for (let at = 0; at < data.length; at += 4) data[at + 3] = data[at]
    } else {
        fillRegions(data, doc.labels, edit.regions, width, height)
    }
    context.putImageData(pixels, 0, 0)
    return canvas
}

function fillRegions(data, labels, regions, width, height) {
    const isMarked = labels.names.map((name) => (regions.includes(name) ? 255 : 0))
    for (let y = 0, at = 3; y < height; y++) {
        const row = Math.floor((y * labels.height) / height) * labels.width
        for (let x = 0; x < width; x++, at += 4) {
            data[at] = isMarked[labels.ids[row + Math.floor((x * labels.width) / width)]]
        }
    }
}
