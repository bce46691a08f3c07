/** Buttons, sliders and fields: native elements, so that keyboards and screen readers know them. */

import { useId } from "../vendor/preact_hooks.js"
import { html } from "./html.js"
import { Icon } from "./icon.js"

/**
 * @param {object} props
 * @param {string} props.icon
 * @param {string} props.label     its name, also shown as a tip
 * @param {string} [props.keys]    the shortcut, as shown
 * @param {string} [props.tip]     what is shown instead of the name
 * @param {boolean} [props.pressed]   for a toggle
 * @param {string} [props.side]    where the tip goes: "right", "bottom", "top", "left"
 */
export function IconButton({ icon, label, keys, tip, pressed, side = "bottom", className = "", ...rest }) {
    const named = keys ? `${label} (${keys})` : label
    return html`<button
        type="button"
        class=${`icon-button tip-${side} ${className}`}
        aria-label=${label}
        aria-pressed=${pressed === undefined ? undefined : String(pressed)}
        data-tip=${tip ?? named}
        ...${rest}
    >
        <${Icon} name=${icon} />
    </button>`
}

/** @param {{icon?: string, label: string, kind?: "primary"|"plain"|"quiet"|"danger"}} props */
export function Button({ icon, label, kind = "plain", className = "", children, ...rest }) {
    return html`<button type="button" class=${`button ${kind} ${className}`} ...${rest}>
        ${icon && html`<${Icon} name=${icon} size=${18} />`}<span>${label}</span>${children}
    </button>`
}

/**
 * A slider with its value as text.
 *
 * @param {object} props
 * @param {string} props.label
 * @param {number} props.value
 * @param {(value: number) => void} props.onInput
 * @param {string} props.text      the value in words, for eyes and screen readers
 */
export function Slider({ label, value, min, max, step = 1, text, onInput, compact, ...rest }) {
    const id = useId()
    const share = ((value - min) / (max - min)) * 100
    return html`<div class=${compact ? "slider compact" : "slider"}>
        <label for=${id}>${label}</label>
        <output for=${id}>${text}</output>
        <input
            id=${id}
            type="range"
            min=${min}
            max=${max}
            step=${step}
            value=${value}
            aria-valuetext=${text}
            style=${{ "--share": `${share}%` }}
            onInput=${(event) => onInput(event.currentTarget.valueAsNumber)}
            ...${rest}
        />
    </div>`
}

/**
 * One of a few, side by side.
 *
 * @param {{label: string, value: string, options: {value: string, label: string, hint?: string}[],
 *     onChange: (value: string) => void, hideLabel?: boolean}} props
 */
export function Choice({ label, value, options, onChange, hideLabel, disabled }) {
    const name = useId()
    return html`<fieldset class="choice" disabled=${disabled}>
        <legend class=${hideLabel ? "unseen" : ""}>${label}</legend>
        <div class="choice-row">
            ${options.map(
                (option) => html`<label class="choice-item" title=${option.hint}>
                    <input
                        type="radio"
                        name=${name}
                        checked=${option.value === value}
                        onChange=${() => onChange(option.value)}
                    />
                    <span>${option.label}</span>
                </label>`,
            )}
        </div>
    </fieldset>`
}

/** @param {{label: string, value: string, options: {value: string, label: string}[], onChange: (value: string) => void, hint?: string}} props */
export function Select({ label, value, options, onChange, hint }) {
    const id = useId()
    return html`<div class="field">
        <label for=${id}>${label}</label>
        <select id=${id} value=${value} onChange=${(event) => onChange(event.currentTarget.value)}
            aria-describedby=${hint && `${id}-hint`}>
            ${options.map(
                (option) => html`<option value=${option.value} selected=${option.value === value}>
                    ${option.label}
                </option>`,
            )}
        </select>
        ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    </div>`
}

/**
 * A whole number that may be left open.
 *
 * @param {{label: string, value: number|null, min: number, max: number, placeholder?: string,
 *     onChange: (value: number|null) => void, hint?: string}} props
 */
export function NumberField({ label, value, min, max, placeholder, onChange, hint, ...rest }) {
    const id = useId()
    const commit = (event) => {
        const field = event.currentTarget
        const number = field.value.trim() === "" ? null : Math.round(field.valueAsNumber)
        const good = number === null || Number.isFinite(number)
        const clamped = number === null ? null : Math.min(max, Math.max(min, number))
        const next = good ? clamped : value
        field.value = next ?? ""
        onChange(next)
    }
    return html`<div class="field">
        <label for=${id}>${label}</label>
        <input id=${id} type="number" inputmode="numeric" min=${min} max=${max} value=${value ?? ""}
            placeholder=${placeholder} onChange=${commit}
            aria-describedby=${hint && `${id}-hint`} ...${rest} />
        ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    </div>`
}

/** @param {{label: string, checked: boolean, onChange: (checked: boolean) => void}} props */
export function Switch({ label, checked, onChange }) {
    return html`<label class="switch">
        <input type="checkbox" role="switch" checked=${checked}
            onChange=${(event) => onChange(event.currentTarget.checked)} />
        <span>${label}</span>
    </label>`
}
