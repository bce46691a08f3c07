import { S } from "../strings.js"
import { Button } from "./controls.js"
import { enhance } from "./enhance.js"
import { html } from "./html.js"
import { LayersSection } from "./layers_section.js"
import { FillSection, RegionsSection } from "./regions_section.js"
import { candidates, job, panelTab, useDocument } from "./state.js"
import { StrengthSection, VariationsSection } from "./strength_section.js"
import { TuningSection } from "./tuning_section.js"

/** What to change, how, and how much; on a narrow window one tab at a time. */
export function Panel() {
    const tab = panelTab.value
    return html`<aside class="panel" aria-label=${S.panel.label}>
        <div class="panel-tabs" role="group" aria-label=${S.panel.label}>
            ${Object.entries(S.panel.tabs).map(
                ([name, label]) => html`<button type="button" key=${name} aria-pressed=${String(tab === name)}
                    onClick=${() => (panelTab.value = name)}>${label}</button>`,
            )}
        </div>
        <div class="panel-body" data-tab=${tab}>
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
        <${EnhanceBar} />
    </aside>`
}

function EnhanceBar() {
    const doc = useDocument()
    const isEmpty = doc.maskEmpty && doc.paintEmpty
    return html`<div class="enhance-bar">
        <${Button} icon="sparkles" kind="primary" className="enhance" label=${S.enhance.label}
            disabled=${job.value !== null || candidates.value !== null}
            aria-describedby=${isEmpty ? "enhance-hint" : undefined}
            aria-keyshortcuts="Control+Enter" onClick=${enhance}>
            <kbd aria-hidden="true">${S.enhance.keys}</kbd>
        <//>
        ${isEmpty && html`<p class="hint" id="enhance-hint">${S.enhance.nothing}</p>`}
    </div>`
}
