/** The keyboard: one table for what keys do and for the help sheet. */

import { signal } from "../vendor/signals_core.js"
import { enhance, keep } from "./enhance.js"
import { askForFile } from "./header.js"
import { CTRL } from "./platform.js"
import { candidates, currentDocument, dialog, job, locked } from "./state.js"
import {
    TOOLS, changeHardness, chooseTool, redo, resizeBrush, toggleCompare, toggleOverlay, undo,
} from "./tools.js"

const STORED_AS = "npe-single-keys"

/** Shortcuts without Ctrl can be turned off: speech input and shaky hands press them by accident. */
export const singleKeys = signal(localStorageItem() !== "off")

/** @param {boolean} on */
export function setSingleKeys(on) {
    singleKeys.value = on
    try {
        localStorage.setItem(STORED_AS, on ? "on" : "off")
    } catch {
        // then it holds until the page is left
    }
}

const withDocument = (action) => () => currentDocument.value && action(currentDocument.value)
const unlocked = (action) => withDocument((doc) => locked.value || action(doc))

/**
 * name: of the text in strings.js. keys: KeyboardEvent.key, lowercase, with "ctrl+" and "shift+" before.
 * shown: what the help sheet says. Those with Ctrl work everywhere, the others not in fields.
 */
export const SHORTCUTS = [
    ...TOOLS.map(({ tool, key }) => ({
        name: tool, group: "tools", keys: [key.toLowerCase()], shown: key, run: () => chooseTool(tool),
    })),
    { name: "space", group: "tools", keys: [], shown: "Space", run: null },
    { name: "smaller", group: "tools", keys: ["["], shown: "[", run: () => resizeBrush(-1) },
    { name: "larger", group: "tools", keys: ["]"], shown: "]", run: () => resizeBrush(1) },
    { name: "softer", group: "tools", keys: ["{", "shift+{"], shown: "{", run: () => changeHardness(-0.1) },
    { name: "harder", group: "tools", keys: ["}", "shift+}"], shown: "}", run: () => changeHardness(0.1) },
    { name: "zoomIn", group: "view", keys: ["+", "shift++", "="], shown: "+", run: withDocument((doc) => doc.view.zoomIn()) },
    { name: "zoomOut", group: "view", keys: ["-"], shown: "-", run: withDocument((doc) => doc.view.zoomOut()) },
    { name: "fit", group: "view", keys: ["0"], shown: "0", run: withDocument((doc) => doc.view.fit()) },
    { name: "actual", group: "view", keys: ["1"], shown: "1", run: withDocument((doc) => doc.view.actual()) },
    { name: "arrows", group: "view", keys: [], shown: "← ↑ → ↓", run: null },
    { name: "compare", group: "view", keys: ["c"], shown: "C", run: toggleCompare },
    { name: "original", group: "view", keys: [], shown: "\\", run: null },
    { name: "overlay", group: "view", keys: ["l"], shown: "L", run: toggleOverlay },
    { name: "help", group: "view", keys: ["?", "shift+?"], shown: "?", run: () => (dialog.value = "help") },
    { name: "enhance", group: "edit", keys: ["ctrl+enter"], shown: `${CTRL} Enter`, run: unlocked(enhance) },
    { name: "keep", group: "edit", keys: ["k"], shown: "K", run: () => candidates.value && keep() },
    { name: "cancel", group: "edit", keys: ["escape"], shown: "Esc", run: cancel },
    { name: "undo", group: "edit", keys: ["ctrl+z"], shown: `${CTRL} Z`, run: undo },
    { name: "redo", group: "edit", keys: ["ctrl+shift+z", "ctrl+y"], shown: `${CTRL} Shift Z`, run: redo },
    { name: "all", group: "edit", keys: ["ctrl+a"], shown: `${CTRL} A`, run: unlocked((doc) => doc.selectAll()) },
    { name: "invert", group: "edit", keys: ["ctrl+i"], shown: `${CTRL} I`, run: unlocked((doc) => doc.invertMask()) },
    { name: "clear", group: "edit", keys: ["delete", "backspace"], shown: "Del", run: unlocked((doc) => doc.clearMask()) },
    { name: "open", group: "edit", keys: ["ctrl+o"], shown: `${CTRL} O`, run: askForFile },
    { name: "download", group: "edit", keys: ["ctrl+s"], shown: `${CTRL} S`, run: withDocument(() => (dialog.value = "download")) },
]
const BY_KEYS = new Map(SHORTCUTS.flatMap((shortcut) => shortcut.keys.map((keys) => [keys, shortcut])))

/** Listen to the keyboard. */
export function followKeyboard() {
    addEventListener("keydown", onKeyDown)
    addEventListener("keyup", onKeyUp)
    addEventListener("blur", endHolding)
}

/** @param {KeyboardEvent} event */
function onKeyDown(event) {
    if (dialog.value || event.defaultPrevented || event.altKey || event.isComposing) return
    if (event.key === "Escape" && document.querySelector("[popover]:popover-open")) return // the browser closes it
    const hasCtrl = event.ctrlKey || event.metaKey
    const inField = isField(event.target)
    if (!hasCtrl && event.key !== "Escape" && (inField || !singleKeys.value)) return
    if (inField && ["a", "z", "y", "i"].includes(event.key.toLowerCase())) return // the field's own
    if (!hasCtrl && hold(event)) return
    const keys = `${hasCtrl ? "ctrl+" : ""}${event.shiftKey ? "shift+" : ""}${event.key.toLowerCase()}`
    const shortcut = BY_KEYS.get(keys)
    if (!shortcut?.run) return
    event.preventDefault()
    shortcut.run()
}

/** What holds as long as a key does: takes it back again. @type {(() => void)|null} */
let release = null

/** @param {KeyboardEvent} event @returns {boolean} whether this key holds something */
function hold(event) {
    const doc = currentDocument.value
    const onButton = event.target instanceof Element && event.target.closest("button, summary, a, [role=slider]")
    if (!doc || !((event.key === " " && !onButton) || event.key === "\\")) return false
    event.preventDefault()
    if (release) return true
    if (event.key === " ") {
        doc.held = "pan"
        release = () => (doc.held = null)
    } else {
        const { compare } = doc
        doc.compare = 1
        release = () => (doc.compare = compare)
    }
    return true
}

/** @param {KeyboardEvent} event */
function onKeyUp(event) {
    if (event.key === " " || event.key === "\\") endHolding()
}

function endHolding() {
    release?.()
    release = null
}

/** Stop what is under way, innermost first. */
function cancel() {
    const doc = currentDocument.value
    if (doc?.painting) doc.cancelStroke()
    else if (job.value) job.value.cancel()
    else if (doc && doc.compare !== null) doc.compare = null
}

function isField(target) {
    if (!(target instanceof HTMLElement)) return false
    if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button"].includes(target.type)
    return target.matches("textarea, select, [contenteditable]")
}

function localStorageItem() {
    try {
        return localStorage.getItem(STORED_AS)
    } catch {
        return null
    }
}
