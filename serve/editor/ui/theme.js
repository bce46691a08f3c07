/** Light or dark: as the system, unless the person says otherwise. */

import { effect, signal } from "../vendor/signals_core.js"

const STORED_AS = "npe-theme"
const THEMES = ["system", "light", "dark"]

export const theme = signal(stored())

/** The next of system, light and dark. */
export function turnTheme() {
    theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]
    try {
        localStorage.setItem(STORED_AS, theme.value)
    } catch {
        // then it holds until the page is left
    }
}

/** Keep the document's colors as chosen. */
export function followTheme() {
    effect(() => {
        document.documentElement.dataset.theme = theme.value
    })
}

function stored() {
    try {
        const name = localStorage.getItem(STORED_AS)
        return THEMES.includes(name) ? name : "system"
    } catch {
        return "system"
    }
}
