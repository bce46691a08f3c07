import { S } from "../strings.js"
import { Button } from "./controls.js"
import { html } from "./html.js"
import { useTakenFocus } from "./focus.js"

/** What the request under way is doing, and how to stop it. */
export function JobCard({ job }) {
    const { kind, phase, sent, total, step, totalSteps, leftS, cancel } = job
    const isStepping = phase === "working" || phase === "finishing"
    const share = phase === "uploading" ? sent / total : isStepping ? step / totalSteps : null
    const words = S.enhance.phases[phase]
    const [done, all] = phase === "uploading" ? [sent, total] : [step, totalSteps]
    const box = useTakenFocus("button")
    return html`<section class="job-card" aria-label=${S.enhance.kinds[kind]} ref=${box}>
        <div class="job-words">
            <strong>${S.enhance.kinds[kind]}</strong>
            ${phase === "working" && leftS !== null && html`<span class="job-left">${S.enhance.left(leftS)}</span>`}
            <span class="job-phase">${typeof words === "function" ? words(done, all) : words}</span>
        </div>
        <progress class=${share === null ? "indeterminate" : ""} max="1" value=${share ?? undefined}
            aria-label=${S.enhance.kinds[kind]}></progress>
        <${Button} icon="close" label=${S.enhance.cancel} onClick=${cancel} />
    </section>`
}
