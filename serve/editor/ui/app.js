import { S } from "../strings.js"
import { Dialogs } from "./dialogs.js"
import { FileField, Header } from "./header.js"
import { html } from "./html.js"
import { Panel } from "./panel.js"
import { Stage } from "./stage.js"
import { announcement, useDocument } from "./state.js"
import { Toolbar } from "./toolbar.js"
import { Welcome } from "./welcome.js"

/** The whole page. */
export function App() {
    const doc = useDocument()
    return html`
        <a class="skip" href="#stage">${S.skip}</a>
        <${Header} />
        <${FileField} />
        ${doc
            ? html`<div class="workspace"><nav class="tools" aria-label=${S.tools.label}><${Toolbar} /></nav><${Stage} /><${Panel} /></div>`
            : html`<${Welcome} />`}
        <${Dialogs} />
        <div class="unseen" aria-live="polite">${announcement.value}</div>
    `
}
