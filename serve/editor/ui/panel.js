import { S } from "../strings.js"
import { Candidates } from "./candidates.js"
import { Button } from "./controls.js"
import { enhance } from "./enhance.js"
import { useTakenFocus } from "./focus.js"
import { html } from "./html.js"
import { JobCard } from "./job_card.js"
import { LayersSection } from "./layers_section.js"
import { CTRL } from "./platform.js"
import { FillSection, RegionsSection } from "./regions_section.js"
import { candidates, job, panelTab, useDocument } from "./state.js"
import { StrengthSection, VariationsSection } from "./strength_section.js"
import { TuningSection } from "./tuning_section.js"

/** What to change, how, and how much; on a narrow window one tab at a time. */
export function Panel() {
    const tab = panelTab.value
    if (candidates.value) {
        return html`<aside class="panel" aria-label=${S.panel.label}><${Candidates} choice=${candidates.value} /></aside>`
    }
    return html`<aside class="panel" aria-label=${S.panel.label}>
        <div class="panel-tabs" role="group" aria-label=${S.panel.label}>
            ${Object.entries(S.panel.tabs).map(
                ([name, label]) => html`<button type="button" key=${name} aria-pressed=${String(tab === name)}
                    onClick=${() => (panelTab.value = name)}>${label}</button>`,
            )}
        </div>
        <div class="panel-body" key=${tab} data-tab=${tab}>
            <div class="tab-edit">
                <${RegionsSection} />
                <${FillSection} />
                <${StrengthSection} />
            </div>
            <div class="tab-tune">
                <${VariationsSection} />
                <${TuningSection} />
            </div>
            <div class="tab-layers"><${LayersSection} /></div>
        </div>
        <div class="panel-foot">
            ${job.value ? html`<${JobCard} job=${job.value} />` : html`<${EnhanceBar} />`}
        </div>
    </aside>`
}

function EnhanceBar() {
    const doc = useDocument()
    const isEmpty = doc.maskEmpty && doc.paintEmpty
    const box = useTakenFocus("button")
    return html`<div class="enhance-bar" ref=${box}>
        <${Button} icon="sparkles" kind="primary" className="enhance" label=${S.enhance.label}
            aria-describedby=${isEmpty ? "enhance-hint" : undefined}
            aria-keyshortcuts="Control+Enter" onClick=${enhance}>
            <kbd aria-hidden="true">${CTRL} Enter</kbd>
        <//>
        ${isEmpty && html`<p class="hint" id="enhance-hint">${S.enhance.nothing}</p>`}
    </div>`
}
