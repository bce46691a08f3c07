import { S } from "../strings.js"
import { Button } from "./controls.js"
import { another, discard, keep, showCandidate } from "./enhance.js"
import { useTakenFocus } from "./focus.js"
import { html } from "./html.js"

/**
 * The results to choose from, in place of the panel: what it sets cannot be changed before the choice.
 *
 * @param {{choice: import("./state.js").Candidates}} props
 */
export function Candidates({ choice }) {
    const { items, index } = choice
    const box = useTakenFocus("button.primary")
    return html`<section class="candidates" aria-label=${S.result.label} ref=${box}>
        <h2>${items.length > 1 ? S.result.choose(items.length) : S.result.one}</h2>
        <p class="hint">${S.result.hint}</p>
        ${items.length > 1 && html`<div class="strip" role="radiogroup" aria-label=${S.result.strip}
            onKeyDown=${(event) => moveChoice(event, choice)}>
            ${items.map(
                ({ url, seed }, at) => html`<button type="button" key=${url} class="strip-item" role="radio"
                    aria-checked=${String(at === index)} tabIndex=${at === index ? 0 : -1}
                    aria-label=${S.result.variation(at + 1, items.length, seed)}
                    onClick=${() => showCandidate(at)}>
                    <img src=${url} alt="" draggable=${false} />
                    <span class="strip-number" aria-hidden="true">${at + 1}</span>
                </button>`,
            )}
        </div>`}
        <div class="candidate-buttons">
            <${Button} icon="check" kind="primary" className="large" label=${S.result.keep} onClick=${keep} />
            <${Button} icon="dice" label=${S.result.another} onClick=${another} />
            <${Button} icon="trash" label=${S.result.discard} onClick=${() => discard()} />
        </div>
        <${Facts} metadata=${choice.metadata} seed=${items[index].seed} />
    </section>`
}

/** What the server chose where the request left it open. */
function Facts({ metadata, seed }) {
    const { strength, timestep, steps, resamples, sampler, detail, blend } = metadata
    const facts = [
        [S.variations.seed, seed],
        [S.strength.title, typeof strength === "number" && strength.toFixed(2)],
        [S.strength.timestep, timestep],
        [S.tuning.steps, resamples > 1 ? `${steps} × ${resamples}` : steps],
        [S.tuning.sampler, sampler],
        [S.tuning.detail, detail],
        [S.tuning.blend, blend],
    ]
    return html`<details class="facts">
        <summary>${S.result.facts}</summary>
        <dl>
            ${facts.map(([label, value]) => (value || value === 0) && html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}
        </dl>
    </details>`
}

function moveChoice(event, { items, index }) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key]
    if (!step) return
    event.preventDefault()
    const next = (index + step + items.length) % items.length
    event.currentTarget.children[next].focus()
    showCandidate(next)
}
