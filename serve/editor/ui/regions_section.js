import { S } from "../strings.js"
import { Swatches, ColorButton } from "./color_picker.js"
import { Button, Choice } from "./controls.js"
import { chooseColor, chooseFill } from "./fill.js"
import { html } from "./html.js"
import { fill, locked, regionShares, segmentation, useDocument } from "./state.js"
import { Section } from "./section.js"
import { toggleRegion } from "./tools.js"
import { retryLabels } from "./work.js"

/** Legend and selection in one: every region of the photo with its color and share. */
export function RegionsSection() {
    const doc = useDocument()
    return html`<${Section} title=${S.regions.title} className="regions">
        <${Legend} />
        <p class="hint" role="status">${selectionInWords(doc)}</p>
        <div class="button-row" role="group" aria-label=${S.regions.actions} inert=${locked.value}>
            <${Button} kind="quiet" label=${S.regions.all} onClick=${() => doc.selectAll()} />
            <${Button} kind="quiet" label=${S.regions.invert} onClick=${() => doc.invertMask()} />
            <${Button} kind="quiet" label=${S.regions.clear} disabled=${doc.maskEmpty} onClick=${() => doc.clearMask()} />
        </div>
    <//>`
}

function Legend() {
    const doc = useDocument()
    if (segmentation.value === "loading") {
        return html`<p class="loading" role="status"><span class="spinner"></span>${S.regions.loading}</p>`
    }
    if (segmentation.value === "failed" || !doc.labels) {
        return html`<div class="field">
            <p class="hint">${S.regions.failed} ${S.regions.failedHint}</p>
            <${Button} icon="retry" label=${S.regions.retry} onClick=${retryLabels} />
        </div>`
    }
    const { names, colors } = doc.labels
    const selected = doc.selectedRegions
    const present = names.filter((name) => regionShares.value[name] > 0)
    const isBusy = locked.value
    return html`<ul class="legend" aria-label=${S.regions.legend}>
        ${present.map((name) => {
            const isSelected = selected.includes(name)
            return html`<li key=${name}>
                <button type="button" class="region" aria-pressed=${String(isSelected)} disabled=${isBusy}
                    style=${{ "--color": colors[names.indexOf(name)] }}
                    onClick=${() => toggleRegion(name)}
                    onPointerMove=${() => (doc.hoveredRegion = name)}
                    onPointerLeave=${() => (doc.hoveredRegion = null)}
                    onFocus=${() => (doc.hoveredRegion = name)}
                    onBlur=${() => (doc.hoveredRegion = null)}>
                    <span class="region-dot"></span>
                    <span class="region-name">${S.regions.names[name] ?? name}</span>
                    <span class="region-share">${S.regions.share(regionShares.value[name])}</span>
                </button>
            </li>`
        })}
    </ul>`
}

function selectionInWords(doc) {
    const selected = doc.selectedRegions
    if (selected.length) return S.regions.summary(selected.map((name) => S.regions.names[name] ?? name))
    if (!doc.maskEmpty) return S.regions.custom
    if (!doc.paintEmpty) return S.regions.painted
    return S.regions.hint
}

/** Recolor what is marked, or have it drawn anew; paint decides by itself. */
export function FillSection() {
    const doc = useDocument()
    const isPainted = !doc.paintEmpty && doc.maskEmpty
    const { color } = doc.brush
    const options = ["recolor", "redraw"].map((value) => ({ value, label: S.fill[value], hint: S.fill[`${value}Hint`] }))
    const hint = isPainted ? S.fill.painted : S.fill[`${fill.value}Hint`]
    return html`<${Section} title=${S.fill.title} className="fill">
        <${Choice} label=${S.fill.label} hideLabel value=${fill.value} options=${options}
            onChange=${chooseFill} disabled=${locked.value || isPainted} />
        <p class="hint">${hint}</p>
        ${(fill.value === "recolor" || isPainted) && html`<div class="color-row" inert=${locked.value}>
            <${ColorButton} color=${color} onChange=${chooseColor} />
            <${Swatches} color=${color} onChange=${chooseColor} />
        </div>`}
    <//>`
}
