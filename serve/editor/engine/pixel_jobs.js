/** Work on whole images, done by a worker so that nobody waits while painting: see pixel_worker.js. */

import { EditorError } from "./errors.js"

let worker = null
let lastId = 0
/** @type {Map<number, {resolve: (value: any) => void, reject: (error: EditorError) => void}>} */
const waiting = new Map()

function start() {
    const started = new Worker(new URL("./pixel_worker.js", import.meta.url), { type: "module" })
    started.onmessage = ({ data: { id, value, code, reason } }) => {
        const { resolve, reject } = waiting.get(id)
        waiting.delete(id)
        if (code) reject(new EditorError(code, {}, reason))
        else resolve(value)
    }
    // It did not load, or ended: what waits for it would wait forever.
    started.onerror = (event) => {
        event.preventDefault()
        for (const { reject } of waiting.values()) reject(new EditorError("engine-failed"))
        waiting.clear()
        worker = null
    }
    return started
}

/**
 * @param {string} job    a name of pixel_worker.js
 * @param {object} input  what structured clone takes
 * @returns {Promise<any>}
 */
function run(job, input) {
    worker ??= start()
    const id = ++lastId
    return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject })
        worker.postMessage({ id, job, input })
    })
}

/** The image upright at its native size, then halved again and again. @param {Blob} blob @returns {Promise<ImageBitmap[]>} */
export const decodeLevels = (blob) => run("decodeLevels", { blob })

/** @param {Blob} blob @returns {Promise<{width: number, height: number, ids: Uint8Array}>} */
export const decodeLabels = (blob) => run("decodeLabels", { blob })

/** Deflate each. @param {Uint8Array[]} squares @returns {Promise<Uint8Array[]>} */
export const packSquares = (squares) => run("packSquares", { squares })

/**
 * The reverse of encodeLayers for one image.
 *
 * @param {Blob} blob
 * @param {"paint"|"mask"|"restraint"} layer
 * @returns {Promise<{width: number, height: number, squares: Uint8Array[]}>}
 */
export const decodeSquares = (blob, layer) => run("decodeSquares", { blob, layer })

/**
 * PNGs of layers at the photo's native size.
 *
 * @param {object} input
 * @param {number} input.width
 * @param {number} input.height
 * @param {[number, Uint8Array][]} input.paint      squares by index
 * @param {[number, Uint8Array][]} input.mask
 * @param {[number, Uint8Array][]} input.restraint
 * @param {{photo: Blob, color: number[]}|null} input.ground   the photo in this color, laid under the paint wherever
 *   the mask is
 * @param {{mask: boolean, strokes: boolean, strengthMap: boolean}} input.wanted
 * @returns {Promise<{mask: Blob|null, strokes: Blob|null, strengthMap: Blob|null}>}
 */
export const encodeLayers = (input) => run("encodeLayers", input)
