/** One request at a time: its progress, its end by the person or by an error. */

import { editForm } from "../api/fields.js"
import { S } from "../strings.js"
import * as state from "./state.js"
import { dismissTrouble, showNotice, showTrouble } from "./troubles.js"

/** Room for the form's own text and headers in a request. */
const FORM_BYTES = 8192
const ANNOUNCE_EVERY = 0.25 // of the steps

/** @param {import("../api/fields.js").EditRequest} request @throws {TooLarge} */
export function checkSize(request) {
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
export async function runJob(kind, retry, work) {
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
    state.announce(S.enhance.kinds[kind])
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
            state.announce(S.enhance.progress(share))
        }
    }
}
