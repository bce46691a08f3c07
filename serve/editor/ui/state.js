/**
 * What the page shows, as signals. Components read them; actions (ui/actions.js and its neighbors) write.
 */

import { LIMITS } from "../engine/document.js"
import { computed, signal } from "../vendor/signals_core.js"

/** @type {import("../vendor/signals_core.js").Signal<import("../engine/document.js").EditorDocument|null>} */
export const currentDocument = signal(null)

/** Counts the document's events: who reads it is drawn anew when the document has changed. */
export const revision = signal(0)

/** The document, for components: they are drawn anew when it changes. */
export function useDocument() {
    revision.value
    return currentDocument.value
}

/** A key from the address that differs from the one in use. @type {import("../vendor/signals_core.js").Signal<string|null>} */
export const offeredKey = signal(null)

/** What GET /v1/info says, or null as long as it is not known. */
export const info = signal(null)

/** @type {import("../vendor/signals_core.js").Signal<"none"|"loading"|"ready"|"failed">} */
export const segmentation = signal("none")

/** Shares of the photo by region name, from the segmenter. @type {import("../vendor/signals_core.js").Signal<Record<string, number>>} */
export const regionShares = signal({})

/** The region under the pointer and where that is. */
export const hovered = signal(null)

/** Scale of the view: device pixels per photo pixel, and whether it fits the window. */
export const view = signal({ scale: 1, fitted: true })

/**
 * The request under way, or null.
 *
 * @typedef {object} Job
 * @property {"edit"|"upscale"|"jpeg"} kind
 * @property {"preparing"|"uploading"|"waiting"|"working"|"finishing"} phase
 * @property {number} sent
 * @property {number} total        bytes of the upload
 * @property {number} step
 * @property {number} totalSteps
 * @property {number|null} leftS   seconds that it will still take, as far as can be told
 * @property {() => void} cancel
 */
/** @type {import("../vendor/signals_core.js").Signal<Job|null>} */
export const job = signal(null)

/**
 * Results to choose from, not yet part of the document.
 *
 * @typedef {object} Candidates
 * @property {{blob: Blob, url: string, seed: number, receipt: object|null}[]} items
 * @property {number} index      the one that is shown
 * @property {object} metadata
 * @property {import("../api/fields.js").EditRequest} request
 */
/** @type {import("../vendor/signals_core.js").Signal<Candidates|null>} */
export const candidates = signal(null)

/** What went wrong: {title, text, remedy, field, requestId, retryAtMs, retry}; see ui/troubles.js. */
export const trouble = signal(null)

/** A short message: {text, id, action}; see ui/notice.js. */
export const notice = signal(null)

/** What a screen reader is to say now. */
export const announcement = signal("")

/** Have a screen reader say something, also when that is what it has just said. @param {string} text */
export function announce(text) {
    announcement.value = announcement.value === text ? `${text}\u00a0` : text
}

/** @type {import("../vendor/signals_core.js").Signal<null|"help"|"download"|"key"|"new"|"forget"|"other-key">} */
export const dialog = signal(null)

/** Which part of the panel a narrow window shows. */
export const panelTab = signal("edit")

/** Whether the selection gets the color ("recolor") or is drawn anew ("redraw"). */
export const fill = signal("recolor")

export const DEFAULT_SETTINGS = Object.freeze({
    strength: null, // null: the server's default
    timestep: null,
    steps: null,
    resamples: null,
    sampler: null,
    detail: null,
    blend: null,
    seed: null,
    seedLocked: false,
    variations: 1,
})
export const settings = signal({ ...DEFAULT_SETTINGS })

/** @param {Partial<typeof DEFAULT_SETTINGS>} changes */
export function changeSettings(changes) {
    settings.value = { ...settings.value, ...changes }
}

/** What a photo may have, as `openPhoto` takes it: the server's word, once it is known. */
export const photoLimits = computed(() => {
    const { max_image_bytes: bytes = LIMITS.bytes, max_image_pixels: pixels = LIMITS.pixels } = info.value?.limits ?? {}
    return { ...LIMITS, bytes, pixels }
})

/** The server's defaults: {strength, steps, sampler, ...}. */
export const defaults = computed(() => info.value?.bundles?.[0]?.defaults ?? {})

/** Nothing can be painted while a request is under way or results wait for a choice. */
export const locked = computed(() => job.value !== null || candidates.value !== null)
