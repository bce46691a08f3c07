/** The color of brush and marks, and whether marks get it. */

import { currentDocument, fill } from "./state.js"

/** Dragging in the picker is one step of the history, not a hundred. */
const SETTLE_MS = 300
let settling = 0

/** Choose the color of brush and fill. @param {string} color */
export function chooseColor(color) {
    const doc = currentDocument.value
    if (!doc) return
    doc.brush = { color }
    clearTimeout(settling)
    settling = setTimeout(settleFill, SETTLE_MS)
}

/** @param {"recolor"|"redraw"} kind */
export function chooseFill(kind) {
    fill.value = kind
    settleFill()
}

/** What is marked, and what will be, gets the chosen color, or none. */
export function settleFill() {
    clearTimeout(settling)
    const doc = currentDocument.value
    if (!doc) return
    doc.fillColor = fill.value === "recolor" ? doc.brush.color : null
    if (!doc.maskEmpty) doc.setMaskColor(doc.fillColor)
}
