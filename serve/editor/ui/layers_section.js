import { S, formatPercent } from "../strings.js"
import { Button, IconButton, Slider } from "./controls.js"
import { html } from "./html.js"
import { Section } from "./section.js"
import { locked, useDocument } from "./state.js"
import { showTrouble } from "./troubles.js"

/** From top to bottom, as they lie over each other. */
const LAYERS = ["mask", "paint", "result", "photo"]

export function LayersSection() {
    const doc = useDocument()
    const isEmpty = { mask: doc.maskEmpty, paint: doc.paintEmpty, result: doc.result === null, photo: false }
    const clear = { mask: () => doc.clearMask(), paint: () => doc.clearPaint(), result: () => doc.rejectResult() }
    return html`<${Section} title=${S.layers.title} className="layers">
        <ul class="layer-list">
            ${LAYERS.map(
                (name) => html`<${LayerRow} key=${name} name=${name}
                    isEmpty=${isEmpty[name]} clear=${clear[name]} />`,
            )}
        </ul>
        <${Button} icon="newBase" label=${S.layers.useAsBase} disabled=${locked.value || doc.result === null}
            onClick=${() => buildOnResult(doc)} />
        <p class="hint">${S.layers.baseHint}</p>
    <//>`
}

function LayerRow({ name, isEmpty, clear }) {
    const doc = useDocument()
    const { visible, opacity } = doc.layers[name]
    const label = S.layers.names[name]
    const set = (changes) => (doc.layers = { [name]: changes })
    return html`<li class=${`layer ${isEmpty ? "empty" : ""}`}>
        <${IconButton} icon=${visible ? "eye" : "eyeOff"} label=${S.layers.show(label)} pressed=${visible} side="right"
            onClick=${() => set({ visible: !visible })} />
        <span class="layer-name">${label}${isEmpty && html`<span class="unseen">, ${S.layers.empty}</span>`}</span>
        <${Slider} compact label=${S.layers.opacity(label)} value=${opacity} min=${0} max=${1} step=${0.01}
            text=${formatPercent(opacity)} onInput=${(value) => set({ opacity: value })} />
        ${clear && html`<${IconButton} icon="trash" label=${S.layers.clear(label)} side="left"
            disabled=${isEmpty || locked.value} onClick=${clear} />`}
    </li>`
}

function buildOnResult(doc) {
    try {
        doc.useResultAsBase()
    } catch (error) {
        showTrouble(error)
    }
}
