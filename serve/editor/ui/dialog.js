import { useEffect, useId, useRef } from "../vendor/preact_hooks.js"
import { S } from "../strings.js"
import { IconButton } from "./controls.js"
import { html } from "./html.js"
import { dialog } from "./state.js"

/**
 * A modal dialog: the browser keeps the focus inside, Escape closes it, and the focus goes back after.
 *
 * @param {{title: string, onClose?: () => void, className?: string}} props
 */
export function Dialog({ title, onClose = () => (dialog.value = null), className = "", children }) {
    const box = useRef(null)
    const id = useId()
    useEffect(() => {
        const opener = document.activeElement
        box.current.showModal()
        return () => opener?.isConnected && opener.focus()
    }, [])
    const closeOutside = (event) => event.target === box.current && onClose()
    return html`<dialog ref=${box} class=${`dialog ${className}`} aria-labelledby=${id}
        onCancel=${(event) => {
            event.preventDefault()
            onClose()
        }}
        onClose=${onClose} onPointerDown=${closeOutside}>
        <div class="dialog-inner">
            <div class="dialog-head">
                <h2 id=${id}>${title}</h2>
                <${IconButton} icon="close" label=${S.close} side="left" onClick=${onClose} />
            </div>
            ${children}
        </div>
    </dialog>`
}
