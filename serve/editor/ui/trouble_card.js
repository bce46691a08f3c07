import { useEffect, useState } from "../vendor/preact_hooks.js"
import { S } from "../strings.js"
import { Button, IconButton } from "./controls.js"
import { html } from "./html.js"
import { Icon } from "./icon.js"
import { trouble } from "./state.js"
import { dismissTrouble } from "./troubles.js"

/** What went wrong with the last thing that was tried, if anything. */
export function TroubleCard() {
    return trouble.value && html`<${Trouble} trouble=${trouble.value} />`
}

/** An error and its remedy; what the server says is text and nothing else. */
function Trouble({ trouble }) {
    const { title, text, remedy, field, requestId, retry, retryAtMs } = trouble
    const waitS = useCountdown(retryAtMs)
    return html`<section class="card trouble" role="alert">
        <span class="trouble-icon"><${Icon} name="alert" /></span>
        <div class="trouble-words">
            <strong>${title}</strong>
            <p>${[text, remedy].filter(Boolean).map(sentence).join(" ")}</p>
            <p class="hint">
                ${[retry && S.safe, field && S.troubles.field(field), requestId && S.requestId(requestId)].filter(Boolean).join(" · ")}
            </p>
        </div>
        <div class="trouble-buttons">
            ${retry && html`<${Button} icon="retry" kind="primary" disabled=${waitS > 0}
                label=${waitS > 0 ? S.retryIn(waitS) : S.retry}
                onClick=${() => {
                    dismissTrouble()
                    retry()
                }} />`}
            <${IconButton} icon="close" label=${S.dismiss} side="left" onClick=${dismissTrouble} />
        </div>
    </section>`
}

/** The server's sentences start small and end without a period. */
function sentence(text) {
    const full = text.charAt(0).toUpperCase() + text.slice(1)
    return /[.!?…]$/.test(full) ? full : `${full}.`
}

/** Seconds until then, counted down. @param {number} untilMs */
function useCountdown(untilMs = 0) {
    const [now, setNow] = useState(Date.now())
    const left = Math.max(0, Math.ceil((untilMs - now) / 1000))
    useEffect(() => {
        if (left === 0) return undefined
        const timer = setInterval(() => setNow(Date.now()), 500)
        return () => clearInterval(timer)
    }, [untilMs, left === 0])
    return left
}
