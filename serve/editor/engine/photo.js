/** From a file to an upright photo. */

import { EditorError } from "./errors.js"
import { readImageHeader } from "./image_header.js"
import { decodeLevels } from "./pixel_jobs.js"

/** What the server takes of one image (max_image_* in serve/gateway/gateway.yaml; sides as it decodes them). */
export const LIMITS = { bytes: 32505856, pixels: 36000000, minSide: 16, maxSide: 16384 }

/**
 * @typedef {object} OpenedPhoto
 * @property {Blob} bytes      the file's own bytes, copied at once: a file that changes later does no harm
 * @property {"image/jpeg"|"image/png"|"image/webp"} type   by its content, not by its name
 * @property {string} name     file name as given; text from outside
 * @property {number} width    of the upright photo
 * @property {number} height
 * @property {ImageBitmap} bitmap     upright (EXIF)
 * @property {ImageBitmap[]} levels   the same, then halved again and again; closed with the document
 */

/**
 * Read and decode a JPEG, PNG or WebP file, upright. Limits are checked before it is decoded.
 *
 * @param {Blob} file
 * @param {typeof LIMITS} [limits]
 * @returns {Promise<OpenedPhoto>}
 * @throws {EditorError}
 */
export async function openPhoto(file, limits = LIMITS) {
    if (file.size > limits.bytes) throw new EditorError("too-many-bytes", { bytes: file.size, limit: limits.bytes })
    let data
    try {
        data = new Uint8Array(await file.arrayBuffer())
    } catch (error) {
        throw new EditorError("broken-image", {}, error) // a folder, or a file that is gone
    }
    const { type, width, height } = readImageHeader(data)
    checkSize(width, height, limits)
    const bytes = new Blob([data], { type })
    const levels = await decodeLevels(bytes)
    const [bitmap] = levels
    return { bytes, type, name: file.name ?? "", width: bitmap.width, height: bitmap.height, bitmap, levels }
}

function checkSize(width, height, { pixels, minSide, maxSide }) {
    if (Math.min(width, height) < minSide) throw new EditorError("too-small", { width, height, limit: minSide })
    if (Math.max(width, height) > maxSide) throw new EditorError("too-long", { width, height, limit: maxSide })
    if (width * height > pixels) throw new EditorError("too-many-pixels", { width, height, limit: pixels })
}
