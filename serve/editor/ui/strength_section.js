import { S, formatPercent } from "../strings.js"
import { MAX, randomSeed } from "../api/fields.js"
import { Button, IconButton, NumberField, Slider } from "./controls.js"
import { html } from "./html.js"
import { changeSettings, defaults, fill, info, settings, useDocument } from "./state.js"
import { Section } from "./section.js"
import { suggestedStrength } from "./suggested_strength.js"

/** How far the model may go: in words, and as the timestep beside it. */
export function StrengthSection() {
    const doc = useDocument()
    const { strength, timestep } = settings.value
    const isRedrawn = fill.value === "redraw" && doc.paintEmpty
    const value = strength ?? suggestedStrength({ isRedrawn }, defaults.value)
    const [, word, ofPaint, ofRedrawing] = S.strength.words.find(([below]) => value < below)
    const byTimestep = timestep !== null
    return html`<${Section} title=${S.strength.title} className="strength"
        aside=${!byTimestep && html`<span class="strength-word">${word}</span>`}>
        <div class="strength-row">
            <div class="strength-slider" inert=${byTimestep}>
                <${Slider} label=${S.strength.label} value=${value} min=${0} max=${1} step=${0.01}
                    text=${`${formatPercent(value)}, ${word}`} disabled=${byTimestep}
                    onInput=${(strength) => changeSettings({ strength })} />
            </div>
            <${NumberField} label=${S.strength.timestep} value=${timestep} min=${1} max=${MAX.timestep}
                placeholder=${S.strength.auto} title=${S.strength.timestepHint}
                onChange=${(timestep) => changeSettings({ timestep })} />
        </div>
        ${byTimestep
            ? html`<p class="hint">${S.strength.byTimestep(timestep)}
                <${Button} kind="link" label=${S.strength.useStrength} onClick=${() => changeSettings({ timestep: null })} /></p>`
            : html`<p class="hint">${word}: ${isRedrawn ? ofRedrawing : ofPaint}.
                ${strength !== null && html`<${Button} kind="link" label=${S.strength.reset} onClick=${() => changeSettings({ strength: null })} />`}</p>`}
    <//>`
}

/** How many to choose from, and the seed they start at. */
export function VariationsSection() {
    const { variations, seed, seedLocked } = settings.value
    const most = info.value?.limits?.max_variations ?? MAX.variations
    return html`<${Section} title=${S.variations.label} className="variations"
        aside=${html`<div class="stepper" role="group" aria-label=${S.variations.label}>
            <${IconButton} icon="minus" label=${S.variations.fewer} disabled=${variations <= 1} side="left"
                onClick=${() => changeSettings({ variations: variations - 1 })} />
            <output aria-live="polite">${variations}</output>
            <${IconButton} icon="plus" label=${S.variations.more} disabled=${variations >= most} side="left"
                onClick=${() => changeSettings({ variations: variations + 1 })} />
        </div>`}>
        <div class="seed-row">
            <${NumberField} label=${S.variations.seed} value=${seed} min=${0} max=${MAX.seed}
                placeholder=${S.variations.seedRandom}
                onChange=${(seed) => changeSettings({ seed, seedLocked: seed !== null })} />
            <${IconButton} icon="dice" label=${S.variations.dice} side="left"
                onClick=${() => changeSettings({ seed: randomSeed(), seedLocked: true })} />
            <${IconButton} icon=${seedLocked ? "lock" : "unlock"} side="left" pressed=${seedLocked}
                label=${seedLocked ? S.variations.unlock : S.variations.lock}
                onClick=${() => changeSettings({ seedLocked: !seedLocked, seed: seed ?? randomSeed() })} />
        </div>
    <//>`
}
