/** From the paint to a result: the request, its previews, the choice, and what becomes of it. */

import { edit, upscale } from "../api/gateway.js"
import { MAX, editForm, randomSeed } from "../api/fields.js"
import { S } from "../strings.js"
import { settleFill } from "./fill.js"
import { previewComposer } from "./preview.js"
import * as state from "./state.js"
import { dismissTrouble, showNotice, showTrouble } from "./troubles.js"
import { dropCandidates, saveSoon } from "./work.js"

/** Room for the form's own text and headers in a request. */
const FORM_BYTES = 8192
const ANNOUNCE_EVERY = 0.25

/** Send the work, show previews, then offer the results. A retry does the same: nothing is lost meanwhile. */
export async function enhance() {
    const doc = state.currentDocument.value
    if (!doc || state.job.value) return
    const work = await runJob("edit", enhance, async (job) => {
        settleFill()
        const exported = await doc.exportEdit()
        if (exported.empty) {
            showNotice(S.enhance.nothing)
            return null
        }
        const request = buildRequest(exported)
        checkSize(request)
        const showPreview = await previewShower(doc, exported, job.signal)
        const result = await edit(request, {
            receipt: (state.info.value?.receipt_keys ?? []).length > 0,
            signal: job.signal,
            onUpload: job.onUpload,
            onProgress: (progress) => {
                job.onStep(progress.step, progress.totalSteps)
                showPreview(progress)
            },
        })
        return { request, result }
    })
    if (state.currentDocument.value !== doc) return
    if (work) await offer(work.request, work.result)
    else doc.clearPreview()
}

/** The same once more with other seeds: new ones, or those that follow where the seed is locked. */
export async function another() {
    const { seed, seedLocked, variations } = state.settings.value
    if (seedLocked) state.changeSettings({ seed: (seed + variations) % (MAX.seed + 1) })
    discard({ quietly: true })
    await enhance()
}

/**
 * Make the current edit again as a JPEG.
 *
 * @param {import("../api/fields.js").EditRequest} request   with one variation and its seed
 * @returns {Promise<{blob: Blob, receipt: object|null}|null>}
 */
export function makeJpeg(request, retry) {
    return runJob("jpeg", retry, async (job) => {
        const receipt = (state.info.value?.receipt_keys ?? []).length > 0
        const options = { format: "jpeg", receipt, signal: job.signal, onUpload: job.onUpload }
        const onProgress = (progress) => job.onStep(progress.step, progress.totalSteps)
        const result = await edit(request, { ...options, onProgress })
        return { blob: result.images[0], receipt: result.receipts[0] ?? null }
    })
}

/** Enlarge the current image. @param {Blob} image @returns {Promise<Blob|null>} */
export function enlarge(image, retry) {
    return runJob("upscale", retry, (job) =>
        upscale(image, { signal: job.signal, onUpload: job.onUpload }),
    )
}

/** Show another of the results. @param {number} index */
export async function showCandidate(index) {
    const choice = state.candidates.value
    const doc = state.currentDocument.value
    if (!choice || !doc) return
    state.candidates.value = { ...choice, index }
    const bitmap = await createImageBitmap(choice.items[index].blob)
    if (state.candidates.value?.items === choice.items && state.candidates.value.index === index) {
        doc.showPreview(bitmap)
    }
}

/** Make the result that is shown part of the work, as one step that can be undone. */
export async function keep() {
    const choice = state.candidates.value
    const doc = state.currentDocument.value
    if (!choice || !doc) return
    const { blob, seed, receipt } = choice.items[choice.index]
    const { request } = choice
    const parameters = { ...request.parameters, seed, variations: 1 }
    // Beside the server's words, what it takes to make the edit again: for recipes and JPEGs.
    const earlier = doc.base.metadata?.editor?.receipts ?? []
    const receipts = receipt ? [...earlier, receipt] : earlier
    const editor = { request: { ...request, parameters }, receipts }
    try {
        await doc.acceptResult(blob, { ...choice.metadata, seed, editor })
    } catch (error) {
        showTrouble(error)
        return
    }
    doc.clearPreview()
    dropCandidates()
    showNotice(S.result.kept)
}

export function discard({ quietly = false } = {}) {
    state.currentDocument.value?.clearPreview()
    dropCandidates()
    saveSoon()
    if (!quietly) showNotice(S.result.discarded)
}

/** @param {import("../engine/document.js").Edit} exported @returns {import("../api/fields.js").EditRequest} */
function buildRequest(exported) {
    const { photo, mask, regions, strokes, strengthMap, color } = exported
    const { strength, timestep, seedLocked, seed, ...rest } = state.settings.value
    const parameters = {
        color,
        ...rest,
        strength: timestep === null ? strength : null,
        timestep,
        seed: seedLocked && seed !== null ? seed : randomSeed(),
    }
    state.changeSettings({ seed: parameters.seed })
    return { photo, mask, regions, strokes, strengthMap, parameters }
}

function checkSize(request) {
    const limit = state.info.value?.limits?.max_request_bytes
    let bytes = FORM_BYTES
    for (const value of editForm(request).values()) bytes += value.size ?? value.length
    if (limit && bytes > limit) throw new TooLarge(bytes, limit)
}

/** Known before anything is sent: a server that is sent too much may hang up without a word. */
class TooLarge extends Error {
    constructor(bytes, limit) {
        super("too large")
        Object.assign(this, { bytes, limit })
    }
}

async function offer(request, { images, metadata, receipts }) {
    const first = request.parameters.seed
    const items = images.map((blob, index) => ({
        blob,
        url: URL.createObjectURL(blob),
        seed: metadata.seeds?.[index] ?? first + index,
        receipt: receipts[index] ?? null,
    }))
    state.candidates.value = { items, index: 0, metadata, request }
    state.announcement.value = S.enhance.done(items.length)
    saveSoon()
    await showCandidate(0)
}

/** Offer again what waited for a choice when the page was left. @param {import("./state.js").Candidates|null} saved */
export async function resumeChoice(saved) {
    if (!saved) return
    const items = saved.items.map((item) => ({ ...item, url: URL.createObjectURL(item.blob) }))
    state.candidates.value = { ...saved, items }
    await showCandidate(saved.index)
}

/** @returns {Promise<(progress: import("../api/gateway.js").Progress) => void>} */
async function previewShower(doc, exported, signal) {
    const compose = await previewComposer(doc, exported)
    let busy = false
    return async ({ preview, crop }) => {
        if (busy || !preview || !crop) return // one at a time: a slow machine misses some
        busy = true
        try {
            const bitmap = await compose(preview, crop)
            const isCurrent = state.job.value?.signal === signal && !signal.aborted
            if (isCurrent) doc.showPreview(bitmap)
        } finally {
            busy = false
        }
    }
}

/**
 * Run a request with progress and a way to cancel it; what goes wrong is shown.
 *
 * @template T
 * @param {import("./state.js").Job["kind"]} kind
 * @param {() => void} retry
 * @param {(job: {signal: AbortSignal, onUpload: (sent: number, total: number) => void,
 *     onStep: (step: number, total: number) => void}) => Promise<T>} work
 * @returns {Promise<T|null>} null where there is no result
 */
async function runJob(kind, retry, work) {
    const controller = new AbortController()
    const { signal } = controller
    const change = (changes) => {
        if (state.job.value?.signal === signal) state.job.value = { ...state.job.value, ...changes }
    }
    dismissTrouble()
    state.job.value = {
        kind, signal, phase: "preparing", sent: 0, total: 0, step: 0, totalSteps: 0, leftS: null,
        cancel: () => controller.abort(),
    }
    state.announcement.value = S.enhance.started
    try {
        return await work({ signal, onUpload: uploadReporter(change), onStep: stepReporter(change) })
    } catch (error) {
        if (signal.aborted) showNotice(S.enhance.canceled)
        else if (error instanceof TooLarge) state.trouble.value = S.troubles.tooLarge(error.bytes, error.limit)
        else showTrouble(error, retry)
        return null
    } finally {
        if (state.job.value?.signal === signal) state.job.value = null
    }
}

function uploadReporter(change) {
    return (sent, total) => {
        if (sent >= total) change({ phase: "waiting", sent, total })
        else change({ phase: "uploading", sent, total })
    }
}

/** Steps take equally long, so the time left follows from those that were taken. */
function stepReporter(change) {
    let begun = null
    let announced = 0
    return (step, totalSteps) => {
        const now = performance.now()
        begun ??= { step, now }
        const perStep = step > begun.step ? (now - begun.now) / (step - begun.step) : null
        const leftS = perStep === null ? null : (perStep * (totalSteps - step)) / 1000
        const phase = step >= totalSteps ? "finishing" : "working"
        change({ phase, step, totalSteps, leftS })
        const share = step / totalSteps
        if (share - announced >= ANNOUNCE_EVERY) {
            announced = share
            state.announcement.value = S.enhance.progress(share)
        }
    }
}
