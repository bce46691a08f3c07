/** From the paint to a result: the request, its previews, the choice, and what becomes of it. */

import { edit, upscale } from "../api/gateway.js"
import { MAX, randomSeed } from "../api/fields.js"
import { Problem } from "../api/problem.js"
import { S } from "../strings.js"
import { settleFill } from "./fill.js"
import { checkSize, runJob } from "./job.js"
import { previewComposer } from "./preview.js"
import * as state from "./state.js"
import { suggestedStrength } from "./suggested_strength.js"
import { revokeThumbnails, thumbnailUrl } from "./thumbnails.js"
import { showNotice, showTrouble } from "./troubles.js"
import { dropCandidates, saveSoon } from "./work.js"

/** Send the work, show previews, then offer the results. A retry does the same: nothing is lost meanwhile. */
export async function enhance() {
    const doc = state.currentDocument.value
    if (!doc || state.job.value) return
    await runJob("edit", enhance, async (job) => {
        settleFill()
        const exported = await doc.exportEdit()
        if (exported.empty) {
            showNotice(S.enhance.nothing)
            return
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
        const choice = await withThumbnails(candidatesOf(request, result))
        if (job.signal.aborted) {
            revokeThumbnails(choice.items)
            throw new Problem("canceled")
        }
        offer(choice)
    })
    if (state.currentDocument.value === doc && !state.candidates.value) doc.clearPreview()
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

let isKeeping = false

/** Make the result that is shown part of the work, as one step that can be undone. */
export async function keep() {
    const choice = state.candidates.value
    const doc = state.currentDocument.value
    if (!choice || !doc || isKeeping) return
    isKeeping = true // decoding a large one takes a while: a second press is not a second step
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
    } finally {
        isKeeping = false
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
    const isRedrawn = color === null && strokes === null
    // What the server does of itself need not be said.
    const open = isRedrawn ? suggestedStrength({ isRedrawn }, state.defaults.value) : null
    const parameters = {
        color,
        ...rest,
        strength: timestep === null ? (strength ?? open) : null,
        timestep,
        seed: seedLocked && seed !== null ? seed : randomSeed(),
    }
    state.changeSettings({ seed: parameters.seed })
    return { photo, mask, regions, strokes, strengthMap, parameters }
}

function candidatesOf(request, { images, metadata, receipts }) {
    const items = images.map((blob, index) => ({
        blob,
        seed: metadata.seeds?.[index] ?? request.parameters.seed + index,
        receipt: receipts[index] ?? null,
    }))
    return { items, index: 0, metadata, request }
}

/** @param {import("./state.js").Candidates} choice */
function offer(choice) {
    state.candidates.value = choice
    state.announce(S.enhance.done(choice.items.length))
    saveSoon()
    showCandidate(0)
}

/** Offer again what waited for a choice when the page was left. @param {import("./state.js").Candidates|null} saved */
export async function resumeChoice(saved) {
    if (!saved) return
    state.candidates.value = await withThumbnails(saved)
    await showCandidate(saved.index)
}

/** One result needs none: it is shown anyway. */
async function withThumbnails(choice) {
    const { items, metadata } = choice
    const urlOf = (item) => (items.length > 1 ? thumbnailUrl(item.blob, metadata.crop) : "")
    const urls = await Promise.all(items.map(urlOf))
    return { ...choice, items: items.map((item, index) => ({ ...item, url: urls[index] })) }
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
        } catch {
            // one that cannot be decoded is left out: the result does not depend on it
        } finally {
            busy = false
        }
    }
}
