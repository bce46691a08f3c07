/**
 * The decoded forms of a document's images: of the upload always, of others while they are in use. Bytes
 * stay as they came.
 *
 * @typedef {object} DocumentImage
 * @property {Blob} blob         the bytes as they came
 * @property {string} type       media type
 * @property {object|null} metadata   the server's, as given; null for the upload
 */

import { decodeLevels } from "./pixel_jobs.js"

/** Decoded images beside the upload; each takes 5.3 bytes a pixel. */
const KEPT = 3

export class Images {
    /** @type {Map<DocumentImage, ImageBitmap[]|Promise<void>>} oldest use first */
    #decoded = new Map()

    /**
     * @param {DocumentImage} upload
     * @param {ImageBitmap[]} levels
     * @param {{loaded: () => void, failed: (error: Error) => void}} report
     */
    constructor(upload, levels, report) {
        this.upload = upload
        this.uploadLevels = levels
        this.report = report
    }

    /** Levels of detail, native size first; null while it is being decoded. @param {DocumentImage} image */
    levels(image) {
        if (image === this.upload) return this.uploadLevels
        const found = this.#decoded.get(image)
        if (!found) {
            const decoding = decodeLevels(image.blob).then(
                (levels) => {
                    if (this.#decoded.get(image) !== decoding) return levels.forEach((level) => level.close())
                    this.put(image, levels)
                    return this.report.loaded()
                },
                (error) => this.report.failed(error),
            )
            this.#decoded.set(image, decoding)
        }
        return Array.isArray(found) ? found : null
    }

    /** @param {DocumentImage} image @param {ImageBitmap[]} levels */
    put(image, levels) {
        this.#decoded.set(image, levels)
    }

    /** Let go of what has not been used for longest. @param {DocumentImage[]} used  that stay in any case */
    tidy(used) {
        for (const [image, levels] of this.#decoded) {
            if (this.#decoded.size <= KEPT) return
            if (used.includes(image)) continue
            if (Array.isArray(levels)) levels.forEach((level) => level.close())
            this.#decoded.delete(image)
        }
    }

    close() {
        for (const levels of [this.uploadLevels, ...this.#decoded.values()]) {
            if (Array.isArray(levels)) levels.forEach((level) => level.close())
        }
        this.#decoded.clear()
    }
}

/**
 * Draw an image over the photo's place, from the level that has enough detail and no more.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {ImageBitmap[]} levels
 * @param {import("./view.js").View} view
 */
export function drawLevels(context, levels, view) {
    const width = view.photoWidth * view.scale
    const fitting = levels.findLastIndex((level) => level.width >= Math.floor(width))
    context.drawImage(levels[Math.max(0, fitting)], view.left, view.top, width, view.photoHeight * view.scale)
}
