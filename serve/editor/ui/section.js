import { useId } from "../vendor/preact_hooks.js"
import { html } from "./html.js"

/** A part of the panel with a heading. */
export function Section({ title, aside, children, className = "" }) {
    const id = useId()
    return html`<section class=${`section ${className}`} aria-labelledby=${id}>
        <div class="section-head">
            <h2 id=${id}>${title}</h2>
            ${aside}
        </div>
        ${children}
    </section>`
}
