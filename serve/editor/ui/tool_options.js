import { S, formatPercent, formatPixels } from "../strings.js"
import { ColorButton } from "./color_picker.js"
import { Slider } from "./controls.js"
import { chooseColor } from "./fill.js"
import { html } from "./html.js"
import { locked, useDocument } from "./state.js"
import { PAINTING, maxBrushSize } from "./tools.js"

/** Sizes feel even when each step is a share of the size, so the slider is cubic. */
const SLIDER_STEPS = 100
const toSize = (position, most) => Math.max(1, Math.round(most * (position / SLIDER_STEPS) ** 3))
const toPosition = (size, most) => SLIDER_STEPS * Math.cbrt(size / most)

/** Fingers have no Shift. */
const HAS_SHIFT = matchMedia("(hover: hover)").matches

/** What the chosen tool can be set to, above the photo. */
export function ToolOptions() {
    const doc = useDocument()
    const tool = doc.activeTool
    const isPainting = PAINTING.includes(tool)
    return html`<div class="tool-options" role="group" aria-label=${S.options.label} inert=${locked.value}>
        <span class="tool-name">${S.tools[tool]}</span>
        ${tool === "brush" && html`<${ColorButton} color=${doc.brush.color} onChange=${chooseColor} />`}
        ${isPainting && html`<${BrushOptions} />`}
        ${hintOf(tool) && html`<span class="tool-hint">${hintOf(tool)}</span>`}
    </div>`
}

function hintOf(tool) {
    return tool === "region" && !HAS_SHIFT ? S.options.regionTouch : S.options[tool]
}

function BrushOptions() {
    const doc = useDocument()
    const { size, hardness, opacity, pressure } = doc.brush
    const most = maxBrushSize(doc)
    const set = (changes) => (doc.brush = changes)
    const hasShades = doc.tool === "brush" || doc.tool === "erase"
    return html`
        <${Slider} compact label=${S.options.size} value=${toPosition(size, most)}
            min=${0} max=${SLIDER_STEPS} text=${formatPixels(size)}
            onInput=${(position) => set({ size: toSize(position, most) })} />
        ${hasShades && html`
            <${Slider} compact label=${S.options.hardness} value=${hardness} min=${0} max=${1} step=${0.05}
                text=${formatPercent(hardness)} onInput=${(value) => set({ hardness: value })} />
            <${Slider} compact label=${S.options.opacity} value=${opacity} min=${0.01} max=${1} step=${0.01}
                text=${formatPercent(opacity)} onInput=${(value) => set({ opacity: value })} />
        `}
        ${doc.tool === "brush" && html`<label class="pressure">
            <span class="unseen">${S.options.pressure}</span>
            <select value=${pressure} onChange=${(event) => set({ pressure: event.currentTarget.value })}>
                ${Object.entries(S.options.pressures).map(
                    ([value, label]) => html`<option value=${value} selected=${value === pressure}>${label}</option>`,
                )}
            </select>
        </label>`}
    `
}
