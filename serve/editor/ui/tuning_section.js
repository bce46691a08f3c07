import { CHOICES, MAX, evaluations } from "../api/fields.js"
import { S } from "../strings.js"
import { Button, NumberField, Select } from "./controls.js"
import { html } from "./html.js"
import { Section } from "./section.js"
import { changeSettings, defaults, settings } from "./state.js"

const AUTO = ""

/** Sampler, steps, detail and edge: all automatic until somebody knows better. */
export function TuningSection() {
    const { sampler, steps, resamples, detail, blend } = settings.value
    const isTuned = [sampler, steps, resamples, detail, blend].some((value) => value !== null)
    const select = (name, label, words) => html`<${Select} label=${label} value=${settings.value[name] ?? AUTO}
        options=${[{ value: AUTO, label: S.tuning.auto }, ...CHOICES[name].map((value) => ({ value, label: words[value] }))]}
        onChange=${(value) => changeSettings({ [name]: value || null })} />`
    const reset = () => changeSettings({ sampler: null, steps: null, resamples: null, detail: null, blend: null })
    return html`<${Section} title=${S.tuning.title} className="tuning"
        aside=${isTuned && html`<${Button} kind="link" label=${S.tuning.reset} onClick=${reset} />`}>
        ${select("detail", S.tuning.detail, S.tuning.details)}
        ${select("blend", S.tuning.blend, S.tuning.blends)}
        ${select("sampler", S.tuning.sampler, S.tuning.samplers)}
        <div class="field-pair">
            <${NumberField} label=${S.tuning.steps} value=${steps} min=${1} max=${MAX.steps}
                placeholder=${defaults.value.steps ?? S.strength.auto} title=${S.tuning.stepsHint}
                onChange=${(steps) => changeSettings({ steps })} />
            <${NumberField} label=${S.tuning.resamples} value=${resamples} min=${1} max=${MAX.resamples}
                placeholder=${S.strength.auto} title=${S.tuning.resamplesHint}
                onChange=${(resamples) => changeSettings({ resamples })} />
        </div>
        ${evaluations(settings.value) > MAX.evaluations && html`<p class="hint warning">${S.tuning.tooMuch(MAX.evaluations)}</p>`}
    <//>`
}
