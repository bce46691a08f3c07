import { useEffect, useRef } from "../vendor/preact_hooks.js"
import { S } from "../strings.js"
import { Button } from "./controls.js"
import { another, discard, keep, showCandidate } from "./enhance.js"
import { html } from "./html.js"
import { candidates } from "./state.js"

/** The results to choose from: a strip where there are several, and what to do with the one that is shown. */
export function Candidates() {
    const choice = candidates.value
    return choice && html`<${Choices} choice=${choice} />`
}

function Choices({ choice }) {
    const { items, index } = choice
    const keepButton = useRef(null)
    useEffect(() => {
        // Who pressed Enhance by keyboard goes on here.
        if (document.activeElement === document.body) keepButton.current?.querySelector("button.primary")?.focus()
    }, [])
    return html`<section class="card candidates" aria-label=${S.result.label} ref=${keepButton}>
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
            <${Button} icon="trash" kind="quiet" label=${S.result.discard} onClick=${() => discard()} />
            <${Button} icon="dice" label=${S.result.another} onClick=${another} />
            <${Button} icon="check" kind="primary" label=${S.result.keep} onClick=${keep} />
        </div>
    </section>`
}

function moveChoice(event, { items, index }) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key]
    if (!step) return
    event.preventDefault()
    const next = (index + step + items.length) % items.length
    event.currentTarget.children[next].focus()
    showCandidate(next)
}
