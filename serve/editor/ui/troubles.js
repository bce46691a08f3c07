/** Errors of all kinds as a title, what happened and what to do about it. */

import { EditorError } from "../engine/document.js"
import { Problem } from "../api/problem.js"
import { RecipeError } from "../api/recipe.js"
import { S } from "../strings.js"
import { announce, dialog, notice, offeredKey, trouble } from "./state.js"

/** What to do once a key has been given. @type {(() => void)|null} */
let afterKey = null

/**
 * Show what went wrong; a canceled request is nothing wrong.
 *
 * @param {unknown} error
 * @param {(() => void)|null} [retry]   does the same again
 */
export function showTrouble(error, retry = null) {
    if (error instanceof Problem && error.kind === "canceled") return
    if (error instanceof Problem && error.status === 401) {
        afterKey = retry
        dialog.value = offeredKey.value === null ? "key" : "other-key"
        return
    }
    const words = inWords(error)
    const waitS = error instanceof Problem ? (error.retryAfterS ?? 0) : 0
    trouble.value = { ...words, retry, retryAtMs: Date.now() + waitS * 1000 }
    announce([words.title, words.text, words.remedy].filter(Boolean).join(". "))
}

/** Go on with what the missing key interrupted. */
export function continueAfterKey() {
    const next = afterKey
    afterKey = null
    next?.()
}

export function dismissTrouble() {
    trouble.value = null
}

let lastNotice = 0

/**
 * Show a short message for a few seconds, or, with something to do, until it is dismissed; screen readers say it, too.
 *
 * @param {string} text
 * @param {{label: string, run: () => void}|null} [action]
 */
export function showNotice(text, action = null) {
    const id = ++lastNotice
    notice.value = { id, text, action }
    announce(text)
    if (action) return
    setTimeout(() => {
        if (notice.value?.id === id) notice.value = null
    }, 6000)
}

/** @param {unknown} error @returns {{title: string, text: string, remedy: string, field?: string|null, requestId?: string}} */
function inWords(error) {
    const words = S.troubles
    if (error instanceof EditorError && words.codes[error.code]) return words.codes[error.code](error)
    if (error instanceof RecipeError) {
        const [text, remedy] = words.recipeCodes[error.code](error.details)
        return { title: words.recipe, text, remedy, field: error.field }
    }
    if (error instanceof Problem && error.kind === "refused") {
        const { status, detail: text, remedy, field, requestId } = error
        return { title: words.statuses[status] ?? words.refused, text, remedy, field, requestId }
    }
    if (error instanceof Problem) return { ...words[error.kind], requestId: error.requestId }
    console.error(error)
    return words.unexpected
}
