import { S } from "../strings.js"
import { IconButton } from "./controls.js"
import { html } from "./html.js"
import { job, locked, useDocument } from "./state.js"
import { TOOLS, chooseTool } from "./tools.js"

/** Why no tool can be chosen. */
function lockedTip() {
    return job.value ? S.tools.busy : S.tools.locked
}

/** The tools; arrow keys move between them, as the pattern for toolbars asks. */
export function Toolbar() {
    const doc = useDocument()
    const move = (event) => {
        const forward = ["ArrowDown", "ArrowRight"].includes(event.key)
        if (!forward && !["ArrowUp", "ArrowLeft"].includes(event.key)) return
        event.preventDefault()
        const buttons = [...event.currentTarget.querySelectorAll("button")]
        const at = buttons.indexOf(document.activeElement)
        buttons[(at + (forward ? 1 : -1) + buttons.length) % buttons.length].focus()
    }
    return html`<div class="toolbar" role="toolbar" aria-label=${S.tools.label}
        aria-orientation="vertical" onKeyDown=${move}>
        ${TOOLS.map(
            ({ tool, icon, key, gap }) => html`<${IconButton}
                key=${tool} icon=${icon} side="right" keys=${key}
                label=${S.tools[tool]}
                tip=${locked.value ? lockedTip() : undefined}
                pressed=${doc.activeTool === tool}
                tabIndex=${doc.activeTool === tool ? 0 : -1}
                aria-disabled=${String(locked.value)}
                className=${gap ? "after-gap" : ""}
                onClick=${() => chooseTool(tool)}
            />`,
        )}
    </div>`
}
