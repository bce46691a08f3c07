/** The document under work: opened, segmented, kept over a reload, replaced. */

import { effect, untracked } from "../vendor/signals_core.js"
import { EditorDocument, EditorError, openPhoto, readLabels } from "../engine/document.js"
import { fetchInfo, segment } from "../api/gateway.js"
import { RecipeError, readRecipe } from "../api/recipe.js"
import { S } from "../strings.js"
import { chooseColor, settleFill } from "./fill.js"
import * as state from "./state.js"
import { showNotice, showTrouble } from "./troubles.js"

const SAVE_DELAY_MS = 600
const SAVE_AT_LATEST_MS = 5000

/** A file that waits for the answer whether it may replace the work. @type {Blob|null} */
let waiting = null
let saveTimer = 0
/** When the first change came that is not saved, or null. @type {number|null} */
let unsavedSince = null
let hasToldOfStorage = false
let hasToldOfTabs = false
/**
 * Segmentations by the image they are of.
 *
 * @type {WeakMap<Blob, "loading"|"failed"|{labels: object, shares: Record<string, number>}>}
 */
const labelsOf = new WeakMap()
let segmenting = new AbortController()

/** Ask what the server can do; until it answers, its defaults are unknown and nothing else is amiss. */
export async function loadInfo() {
    try {
        state.info.value = await fetchInfo()
    } catch (error) {
        showTrouble(error, loadInfo)
    }
}

/**
 * Open a photo or a recipe, by its content. Work that would be lost is asked about first.
 *
 * @param {Blob|null|undefined} file
 */
export async function openFile(file) {
    if (!file) return
    if (state.currentDocument.value?.canUndo) {
        waiting = file
        state.dialog.value = "new"
        return
    }
    await openNow(file)
}

/** Answer the question whether the work may be replaced. @param {boolean} replace */
export async function answerReplace(replace) {
    const file = waiting
    waiting = null
    state.dialog.value = null
    if (replace && file) await openNow(file)
}

/** @param {Blob} file */
async function openNow(file) {
    state.trouble.value = null
    try {
        if (await isJson(file)) await openRecipe(file)
        else await openAsDocument(file, file.name ?? "photo")
    } catch (error) {
        showTrouble(error)
    }
}

/** @param {Blob} file */
async function isJson(file) {
    return file.type === "application/json" || (await file.slice(0, 1).text()) === "{"
}

/** @param {Blob} file @param {string} name */
async function openAsDocument(file, name) {
    const named = file instanceof File ? file : new File([file], name, { type: file.type })
    const photo = await openPhoto(named, state.photoLimits.value)
    const doc = new EditorDocument(photo)
    doc.tool = "region"
    // About as thick on the screen for every photo.
    doc.brush = { size: Math.max(8, Math.round(Math.min(doc.width, doc.height) / 14)) }
    doc.overlay = true // until something is chosen
    useAsDocument(doc)
    save()
    state.announce(S.opened(photo.name))
    return doc
}

/** @param {Blob} file */
async function openRecipe(file) {
    const { name, request } = await readRecipe(file)
    const doc = await openAsDocument(request.photo, name)
    const { parameters, mask, regions, strokes, strengthMap } = request
    const { color, seed, ...rest } = parameters
    state.fill.value = color === null && !strokes ? "redraw" : "recolor"
    if (color) doc.brush = { color }
    settleFill()
    state.changeSettings({ ...rest, seed, seedLocked: true })
    // Regions have to be known before they can be selected.
    if (regions.length && !(await labelsReady(doc))) return
    if (!regions.every((region) => doc.labels.names.includes(region))) throw new RecipeError("regions", "regions")
    await doc.importEdit({ mask, regions, strokes, color, strengthMap })
    showNotice(S.recipeOpened)
}

/**
 * Make a document the one under work, and follow its events.
 *
 * @param {EditorDocument} doc
 */
export function useAsDocument(doc) {
    let isFresh = !doc.canUndo
    const bump = () => state.revision.value++
    for (const name of ["change", "history", "selection"]) doc.addEventListener(name, bump)
    doc.addEventListener("history", () => {
        // The overlay greets; from the first mark on it is in the way, unless called back.
        if (isFresh && doc.overlay) doc.overlay = false
        isFresh = false
        saveSoon()
        applyLabels(doc)
    })
    doc.addEventListener("hover", (event) => (state.hovered.value = event.detail))
    doc.addEventListener("color", (event) => chooseColor(event.detail.color))
    doc.addEventListener("view", (event) => (state.view.value = event.detail))
    doc.addEventListener("trouble", (event) => showTrouble(event.detail.error))
    const old = state.currentDocument.value
    state.job.value?.cancel()
    dropCandidates()
    state.currentDocument.value = doc
    hasToldOfStorage = hasToldOfTabs = false
    state.regionShares.value = {}
    old?.close()
    settleFill()
    applyLabels(doc)
}

/** Forget results that nobody chose. */
export function dropCandidates() {
    for (const { url } of state.candidates.value?.items ?? []) URL.revokeObjectURL(url)
    state.candidates.value = null
}

/** Show the regions of the image that the next edit starts from; find them where they are not known. */
function applyLabels(doc) {
    const { blob } = doc.base
    if (!labelsOf.has(blob)) return findLabels(doc, blob)
    const known = labelsOf.get(blob)
    if (typeof known === "string") {
        state.segmentation.value = known
        return undefined
    }
    if (doc.labels?.image !== doc.base) doc.setLabels(known.labels)
    state.regionShares.value = known.shares
    state.segmentation.value = "ready"
    return undefined
}

/** Regions that were saved with the work need not be found again. */
function rememberLabels({ labels }) {
    if (!labels) return
    const { ids, names, colors, width, height, image } = labels
    const counts = new Array(names.length).fill(0)
    for (const id of ids) counts[id]++
    // As the server says it: regions that are there.
    const shares = Object.fromEntries(names.map((name, id) => [name, counts[id] / ids.length]))
    labelsOf.set(image.blob, { labels: { width, height, ids, names, colors }, shares })
}

/** Ask for the regions once more. */
export function retryLabels() {
    const doc = state.currentDocument.value
    if (!doc) return
    labelsOf.delete(doc.base.blob)
    applyLabels(doc)
}

async function findLabels(doc, blob) {
    segmenting.abort()
    segmenting = new AbortController()
    const { signal } = segmenting
    labelsOf.set(blob, "loading")
    state.segmentation.value = "loading"
    try {
        const { labels, regions } = await segment(blob, { signal })
        const names = []
        for (const { id, name } of regions) names[id] = name
        const shares = Object.fromEntries(regions.map(({ name, fraction }) => [name, fraction]))
        labelsOf.set(blob, { labels: await readLabels(labels, names), shares })
        if (!signal.aborted && state.currentDocument.value === doc) applyLabels(doc)
    } catch (error) {
        labelsOf.delete(blob)
        if (signal.aborted) return
        labelsOf.set(blob, "failed") // asked for again only when somebody says so
        if (state.currentDocument.value !== doc || doc.base.blob !== blob) return
        state.segmentation.value = "failed"
        showTrouble(error, retryLabels)
    }
}

/**
 * Wait until the regions are known, also if it takes another try by somebody.
 *
 * @param {EditorDocument} doc
 * @returns {Promise<boolean>} false: another photo took the place of this one
 */
function labelsReady(doc) {
    return new Promise((resolve) => {
        const stop = state.segmentation.subscribe((status) => {
            const isCurrent = state.currentDocument.peek() === doc
            if (status !== "ready" && isCurrent) return
            queueMicrotask(() => stop())
            resolve(isCurrent)
        })
    })
}

/** Keep the work once the hand rests, and now and then where it does not. */
export function saveSoon() {
    clearTimeout(saveTimer)
    if (!state.currentDocument.value) return
    unsavedSince ??= Date.now()
    const leftMs = Math.max(0, unsavedSince + SAVE_AT_LATEST_MS - Date.now())
    saveTimer = setTimeout(save, Math.min(SAVE_DELAY_MS, leftMs))
}

async function save() {
    unsavedSince = null
    const doc = state.currentDocument.value
    if (!doc) return
    try {
        const { settings, fill, candidates } = state
        const isOvertaken = await doc.save({ settings: settings.value, fill: fill.value, candidates: candidates.value })
        if (isOvertaken && !hasToldOfTabs) showNotice(S.otherTab)
        hasToldOfTabs ||= isOvertaken
    } catch (error) {
        if (!(error instanceof EditorError)) throw error
        if (!hasToldOfStorage) showTrouble(error)
        hasToldOfStorage = true // once for each photo: it stays so
    }
}

/** Keep what is set, too, and be quick when the page is left. */
export function followChanges() {
    effect(() => {
        state.settings.value
        state.fill.value
        untracked(saveSoon)
    })
    document.addEventListener("visibilitychange", () => document.hidden && save())
}

/**
 * Show the work of the last visit, if there is any.
 *
 * @returns {Promise<import("./state.js").Candidates|null>} results that waited for a choice
 */
export async function restoreWork() {
    let doc = null
    try {
        doc = await EditorDocument.restore()
    } catch (error) {
        // Where nothing can be stored nothing was. Else another try may help; what is stored stays until then.
        if (error.code !== "storage-unavailable") showTrouble(error, () => location.reload())
    }
    if (!doc) return null
    const { settings, fill, candidates = null } = doc.extra ?? {}
    if (settings) state.settings.value = { ...state.DEFAULT_SETTINGS, ...settings }
    if (fill) state.fill.value = fill
    rememberLabels(doc)
    useAsDocument(doc)
    showNotice(S.restored, { label: S.forget.label, run: () => (state.dialog.value = "forget") })
    return candidates
}

/** Back to the first screen; nothing is kept. */
export async function closeAndForget() {
    const doc = state.currentDocument.value
    state.dialog.value = null
    state.trouble.value = null
    clearTimeout(saveTimer)
    segmenting.abort()
    state.job.value?.cancel()
    dropCandidates()
    state.currentDocument.value = null
    state.notice.value = null
    doc?.close()
    await EditorDocument.forget()
}
