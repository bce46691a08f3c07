import { S } from "../strings.js"
import { IconButton } from "./controls.js"
import { html } from "./html.js"
import { notice } from "./state.js"

/** A short message; one with something to do stays until it is dismissed. */
export function Notice() {
    const { text, action } = notice.value ?? {}
    const act = () => {
        notice.value = null
        action.run()
    }
    return text && html`<div class="notice" role="region" aria-label=${S.notice}>
        <span>${text}</span>
        ${action && html`<button type="button" class="button link" onClick=${act}>${action.label}</button>
            <${IconButton} icon="close" label=${S.dismiss} side="top" onClick=${() => (notice.value = null)} />`}
    </div>`
}
