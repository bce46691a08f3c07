/** What the gateway offers (docs/gateway.md), as functions. All throw Problem. */

import { bytesFromBase64 } from "./base64.js"
import { EventParser } from "./events.js"
import { editForm } from "./fields.js"
import { Problem, readProblem } from "./problem.js"
import { request } from "./request.js"

/**
 * @typedef {object} Progress
 * @property {number} step
 * @property {number} totalSteps
 * @property {Blob|null} preview    the square the model works on, as it sees it now
 * @property {[number, number, number, number]|null} crop   where that is in the photo; may reach beyond it
 *
 * @typedef {object} EditResult
 * @property {Blob[]} images        one for each variation
 * @property {object} metadata      docs/editing.md; `seeds` names the seed of each image
 * @property {object[]} receipts    one for each image, or none
 */

/** Limits, regions, defaults and receipt keys of the server. @returns {Promise<object>} */
export async function fetchInfo() {
    return parse((await request("info")).body)
}

/**
 * Ask which region every pixel belongs to.
 *
 * @param {Blob} photo
 * @param {{signal?: AbortSignal, onUpload?: (sent: number, total: number) => void}} options
 * @returns {Promise<{labels: Blob, regions: {id: number, name: string, fraction: number}[]}>}
 */
export async function segment(photo, options) {
    const answer = await request("segment", { form: photoForm(photo), answer: "blob", ...options })
    const regions = parse(answer.metadata).regions
    if (!Array.isArray(regions)) throw new Problem("protocol")
    return { labels: answer.body, regions }
}

/**
 * Enlarge a photo by the upscaler's factor.
 *
 * @param {Blob} photo
 * @param {{signal?: AbortSignal, onUpload?: (sent: number, total: number) => void}} options
 * @returns {Promise<Blob>}
 */
export async function upscale(photo, options) {
    return (await request("upscale", { form: photoForm(photo), answer: "blob", ...options })).body
}

/**
 * Edit, and tell of it.
 *
 * @param {import("./fields.js").EditRequest} edit
 * @param {object} options
 * @param {"png"|"jpeg"|"webp"} [options.format]
 * @param {boolean} [options.receipt]
 * @param {AbortSignal} [options.signal]
 * @param {(sent: number, total: number) => void} [options.onUpload]
 * @param {(progress: Progress) => void} [options.onProgress]
 * @returns {Promise<EditResult>}
 */
export async function edit(edit, { format, receipt, signal, onUpload, onProgress }) {
    const parser = new EventParser()
    let outcome = null
    const onText = (text) => {
        for (const { name, data } of parser.feed(text)) {
            if (name === "progress") onProgress?.(readProgress(parse(data)))
            else if (name === "result" || name === "error") outcome = { name, data }
        }
    }
    const form = editForm(edit, { format, receipt })
    const accept = "text/event-stream"
    const { requestId } = await request("edit", { form, accept, signal, onUpload, onText })
    if (outcome === null) throw new Problem("network", { requestId }) // the stream was cut off
    if (outcome.name === "error") throw readProblem(500, outcome.data, { requestId })
    return readResult(parse(outcome.data))
}

/** @param {any} event @returns {Progress} */
function readProgress({ step, total_steps: totalSteps, preview, crop }) {
    return {
        step: Number(step) || 0,
        totalSteps: Math.max(1, Number(totalSteps) || 1),
        preview: typeof preview === "string" ? imageBlob(preview, "image/webp") : null,
        crop: Array.isArray(crop) && crop.length === 4 ? crop.map(Number) : null,
    }
}

/** @param {any} document @returns {EditResult} */
function readResult({ image, images, metadata, receipt, receipts }) {
    if (typeof metadata !== "object" || metadata === null) throw new Problem("protocol")
    const type = `image/${metadata.format ?? "png"}`
    return {
        images: (images ?? [image]).map((text) => imageBlob(text, type)),
        metadata,
        receipts: receipts ?? (receipt ? [receipt] : []),
    }
}

/** @param {string} text base64 @param {string} type */
function imageBlob(text, type) {
    try {
        return new Blob([bytesFromBase64(text)], { type })
    } catch {
        throw new Problem("protocol")
    }
}

/** @param {Blob} photo */
function photoForm(photo) {
    const form = new FormData()
    form.append("photo", photo, "photo")
    return form
}

/** @param {string} text */
function parse(text) {
    try {
        return JSON.parse(text)
    } catch {
        throw new Problem("protocol")
    }
}
