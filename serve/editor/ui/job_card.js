import { useEffect, useState } from "../vendor/preact_hooks.js"
import { S } from "../strings.js"
import { Button, IconButton } from "./controls.js"
import { html } from "./html.js"
import { Icon } from "./icon.js"
import { candidates, job, trouble } from "./state.js"
import { dismissTrouble } from "./troubles.js"

/** What the request under way is doing, or what went wrong with the last one. */
export function JobCard() {
    if (job.value) return html`<${Progress} job=${job.value} />`
    if (trouble.value && !candidates.value) return html`<${Trouble} trouble=${trouble.value} />`
    return null
}

function Progress({ job }) {
    const { phase, sent, total, step, totalSteps, leftS } = job
    const share = phase === "uploading" ? sent / total : phase === "working" || phase === "finishing" ? step / totalSteps : null
    const words = S.enhance.phases[phase]
    const text = typeof words !== "function" ? words : phase === "uploading" ? words(sent, total) : words(step, totalSteps)
    return html`<section class="card job-card" aria-label=${S.enhance.kinds[job.kind]}>
        <div class="job-words">
            <strong>${S.enhance.kinds[job.kind]}</strong>
            <span class="job-phase">${text}</span>
            ${phase === "working" && leftS !== null && html`<span class="job-left">${S.enhance.left(leftS)}</span>`}
        </div>
        <progress class=${share === null ? "indeterminate" : ""} max="1" value=${share ?? undefined}
            aria-label=${S.enhance.kinds[job.kind]}></progress>
        <${Button} icon="close" label=${S.enhance.cancel} onClick=${job.cancel} />
    </section>`
}

/** An error and its remedy; what the server says is text and nothing else. */
export function Trouble({ trouble }) {
    const { title, text, remedy, field, requestId, retry, retryAtMs } = trouble
    const waitS = useCountdown(retryAtMs)
    return html`<section class="card trouble" role="alert">
        <span class="trouble-icon"><${Icon} name="alert" /></span>
        <div class="trouble-words">
            <strong>${title}</strong>
            <p>${[text, remedy].filter(Boolean).map(sentence).join(" ")}</p>
            <p class="hint">
                ${[field && S.troubles.field(field), requestId && S.requestId(requestId)].filter(Boolean).join(" · ")}
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
