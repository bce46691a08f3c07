/** Tools, brush and history, as the buttons and the shortcuts use them. */

import { S } from "../strings.js"
import { discard } from "./enhance.js"
import * as state from "./state.js"

/** The tools in the order of the bar; `gap` starts a group. */
export const TOOLS = [
    { tool: "region", icon: "region", key: "V" },
    { tool: "brush", icon: "brush", key: "B", gap: true },
    { tool: "erase", icon: "eraser", key: "E" },
    { tool: "mask", icon: "maskAdd", key: "M", gap: true },
    { tool: "unmask", icon: "maskRemove", key: "U" },
    { tool: "eyedropper", icon: "pipette", key: "I", gap: true },
    { tool: "pan", icon: "hand", key: "H" },
]
export const PAINTING = ["brush", "erase", "mask", "unmask"]
const SIZE_FACTOR = 1.2

/** @param {import("../engine/document.js").Tool} tool */
export function chooseTool(tool) {
    const doc = state.currentDocument.value
    if (doc && !state.locked.value) doc.tool = tool
}

/** @param {number} direction 1 for larger, -1 for smaller */
export function resizeBrush(direction) {
    const doc = state.currentDocument.value
    if (!doc) return
    const { size } = doc.brush
    const next = Math.round(size * SIZE_FACTOR ** direction)
    doc.brush = { size: clamp(next === size ? size + direction : next, 1, maxBrushSize(doc)) }
}

/** @param {number} change */
export function changeHardness(change) {
    const doc = state.currentDocument.value
    if (doc) doc.brush = { hardness: clamp(doc.brush.hardness + change, 0, 1) }
}

/** A brush of half the photo's long side is as large as is of use. */
export function maxBrushSize(doc) {
    return clamp(Math.round(Math.max(doc.width, doc.height) / 2), 20, 2000)
}

/** Add a region to the selection or take it out. @param {string} name */
export function toggleRegion(name) {
    const doc = state.currentDocument.value
    if (!doc || state.locked.value) return
    // On a result a new selection begins: what led to it is done.
    const isOnResult = doc.result !== null && doc.layers.result.visible
    const selected = isOnResult ? [] : doc.selectedRegions
    const isSelected = selected.includes(name)
    doc.selectRegions(isSelected ? selected.filter((other) => other !== name) : [...selected, name])
}

/** One step back; results that wait for a choice are what comes off first. */
export function undo() {
    const doc = state.currentDocument.value
    if (state.candidates.value) discard()
    else if (!state.job.value && doc?.canUndo) {
        state.announce(S.header.undone(stepName(doc.undoLabel)))
        doc.undo()
    }
}

export function redo() {
    const doc = state.currentDocument.value
    if (state.locked.value || !doc?.canRedo) return
    state.announce(S.header.redone(stepName(doc.redoLabel)))
    doc.redo()
}

export function toggleOverlay() {
    const doc = state.currentDocument.value
    if (doc) doc.overlay = !doc.overlay
}

export function toggleCompare() {
    const doc = state.currentDocument.value
    if (doc) doc.compare = doc.compare === null ? 0.5 : null
}

/** @param {string|null} label the engine's name of a step */
export function stepName(label) {
    return label === null ? "" : (S.steps[label] ?? label)
}

function clamp(value, least, most) {
    return Math.min(most, Math.max(least, value))
}
