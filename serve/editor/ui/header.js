import { S } from "../strings.js"
import { Button, IconButton } from "./controls.js"
import { html } from "./html.js"
import { CTRL } from "./platform.js"
import { candidates, dialog, job, useDocument } from "./state.js"
import { theme, turnTheme } from "./theme.js"
import { redo, stepName, undo } from "./tools.js"
import { openFile } from "./work.js"

/** The hidden field behind every button that opens a file. */
const FIELD_ID = "file-field"

/** Ask for a file. */
export function askForFile() {
    document.getElementById(FIELD_ID).click()
}

export function FileField() {
    const open = (event) => {
        const field = event.currentTarget
        openFile(field.files[0])
        field.value = "" // so that the same file can be chosen again
    }
    return html`<input id=${FIELD_ID} type="file" hidden aria-label=${S.header.openTip}
        accept="image/jpeg,image/png,image/webp,application/json,.json" onChange=${open} />`
}

export function Header() {
    const doc = useDocument()
    const isBusy = job.value !== null
    return html`<header class="header">
        <div class="brand">
            <span class="brand-mark" aria-hidden="true"></span>
            <h1>${S.name}</h1>
        </div>
        ${doc && html`<p class="file-name">
            <span class="file-stem">${doc.name}</span>
            <span class="file-size">${S.header.size(doc.width, doc.height)}</span>
        </p>`}
        <div class="header-tools">
            ${doc && html`
                <div class="group">
                    <${IconButton} icon="undo" keys=${`${CTRL} Z`} onClick=${undo}
                        label=${S.header.undo(stepName(doc.undoLabel))}
                        disabled=${isBusy || !(doc.canUndo || candidates.value)} />
                    <${IconButton} icon="redo" keys=${`${CTRL} Shift Z`} onClick=${redo}
                        label=${S.header.redo(stepName(doc.redoLabel))}
                        disabled=${isBusy || candidates.value !== null || !doc.canRedo} />
                </div>
                <${Button} icon="open" label=${S.header.open} className="slim" kind="quiet"
                    title=${S.header.openTip} aria-label=${S.header.open} onClick=${askForFile} />
                <${Button} icon="download" label=${S.header.download} className="slim"
                    aria-label=${S.header.download} onClick=${() => (dialog.value = "download")} />
                <${IconButton} icon="close" label=${S.forget.label} className="not-on-phones"
                    onClick=${() => (dialog.value = "forget")} />
            `}
            <div class="group">
                <${IconButton} icon=${theme.value === "system" ? "system" : theme.value === "light" ? "sun" : "moon"}
                    label=${S.header.theme[theme.value]} onClick=${turnTheme} className="theme-button" />
                <${IconButton} icon="help" label=${S.header.help} keys="?"
                    onClick=${() => (dialog.value = "help")} />
            </div>
        </div>
    </header>`
}
