import { useEffect, useId, useRef, useState } from "../vendor/preact_hooks.js"
import { S } from "../strings.js"
import { fromHex, toHex } from "./color_math.js"
import { IconButton, Slider } from "./controls.js"
import { html } from "./html.js"
import { chooseTool } from "./tools.js"

const KEY_STEP = 0.02

/**
 * A button that shows a color and opens the picker.
 *
 * @param {{color: string, onChange: (color: string) => void}} props
 */
export function ColorButton({ color, onChange }) {
    const id = useId()
    return html`<span class="color-button-box">
        <button type="button" class="color-button" popovertarget=${id} aria-label=${S.color.change(color)}
            style=${{ "--color": color }}></button>
        <div class="popover" id=${id} popover="auto" role="dialog" aria-label=${S.color.label}
            onToggle=${(event) => event.newState === "open" && placeBy(event.currentTarget)}>
            <${ColorPicker} color=${color} onChange=${onChange} />
        </div>
    </span>`
}

/** Put a popover below its button, within the window. @param {HTMLElement} popover */
function placeBy(popover) {
    const button = popover.previousElementSibling.getBoundingClientRect()
    const { width, height } = popover.getBoundingClientRect()
    const gap = 8
    const left = Math.min(button.left, innerWidth - width - gap)
    const below = button.bottom + gap
    const top = below + height < innerHeight ? below : Math.max(gap, button.top - height - gap)
    popover.style.left = `${Math.max(gap, left)}px`
    popover.style.top = `${top}px`
}

function ColorPicker({ color, onChange }) {
    // Gray has no hue and black no saturation: the picker remembers them while its own color holds.
    const [hsb, setHsb] = useState(fromHex(color))
    useEffect(() => {
        if (toHex(hsb) !== color.toLowerCase()) setHsb(fromHex(color))
    }, [color])
    const change = (changes) => {
        const next = { ...hsb, ...changes }
        setHsb(next)
        onChange(toHex(next))
    }
    return html`<div class="color-picker">
        <${Area} hsb=${hsb} onChange=${change} />
        <div class="hue">
            <${Slider} label=${S.color.hue} value=${hsb.hue} min=${0} max=${359}
                text=${S.color.hueText(hsb.hue)} onInput=${(hue) => change({ hue })} />
        </div>
        <div class="hex-row">
            <${HexField} color=${color} onChange=${onChange} />
            <${IconButton} icon="pipette" label=${S.color.pick} side="top" onClick=${(event) => {
                event.currentTarget.closest("[popover]")?.hidePopover()
                chooseTool("eyedropper")
            }} />
        </div>
        <${Swatches} color=${color} onChange=${onChange} />
    </div>`
}

/** Saturation to the right, brightness upwards. */
function Area({ hsb, onChange }) {
    const box = useRef(null)
    const pick = (event) => {
        const { left, top, width, height } = box.current.getBoundingClientRect()
        onChange({
            saturation: clamp((event.clientX - left) / width),
            brightness: clamp(1 - (event.clientY - top) / height),
        })
    }
    const press = (event) => {
        const step = event.shiftKey ? KEY_STEP * 5 : KEY_STEP
        const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0]
        if (!dx && !dy) return
        event.preventDefault()
        onChange({ saturation: clamp(hsb.saturation + dx * step), brightness: clamp(hsb.brightness + dy * step) })
    }
    return html`<div class="color-area" ref=${box} tabIndex="0" role="slider" aria-label=${S.color.area}
        aria-valuenow=${Math.round(hsb.saturation * 100)} aria-valuemin="0" aria-valuemax="100"
        aria-valuetext=${S.color.areaText(hsb.saturation, hsb.brightness)}
        style=${{ "--hue": `hsl(${hsb.hue} 100% 50%)` }}
        onKeyDown=${press}
        onPointerDown=${(event) => {
            event.currentTarget.setPointerCapture(event.pointerId)
            pick(event)
        }}
        onPointerMove=${(event) => event.buttons && pick(event)}>
        <span class="color-knob" style=${{
            "--color": toHex(hsb), left: `${hsb.saturation * 100}%`, top: `${(1 - hsb.brightness) * 100}%`,
        }}></span>
    </div>`
}

function HexField({ color, onChange }) {
    const id = useId()
    const commit = (event) => {
        const text = event.currentTarget.value.trim().replace(/^#?/, "#").toLowerCase()
        if (/^#[0-9a-f]{6}$/.test(text)) onChange(text)
        else event.currentTarget.value = color
    }
    return html`<div class="field inline">
        <label for=${id}>${S.color.hex}</label>
        <input id=${id} type="text" value=${color} maxlength="7" spellcheck=${false} autocomplete="off" onChange=${commit} />
    </div>`
}

/** @param {{color: string, onChange: (color: string) => void}} props */
export function Swatches({ color, onChange }) {
    return html`<div class="swatches" role="group" aria-label=${S.color.swatches}>
        ${Object.entries(S.color.names).map(
            ([value, name]) => html`<button type="button" key=${value} class="swatch"
                aria-label=${S.color.swatch(name)} aria-pressed=${String(value === color)}
                title=${name} style=${{ "--color": value }} onClick=${() => onChange(value)}></button>`,
        )}
    </div>`
}

function clamp(value) {
    return Math.min(1, Math.max(0, value))
}
