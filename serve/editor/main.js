/** The page's beginning: what the browser loads. */

import "./vendor/signals.js" // lets components follow signals
import { render } from "./vendor/preact.js"
import { takeKeyFromAddress } from "./api/key.js"
import { S } from "./strings.js"
import { App } from "./ui/app.js"
import { resumeChoice } from "./ui/enhance.js"
import { html } from "./ui/html.js"
import { followLock } from "./ui/locking.js"
import { followFiles } from "./ui/opening.js"
import { followKeyboard } from "./ui/shortcuts.js"
import { dialog, info, offeredKey } from "./ui/state.js"
import { followTheme } from "./ui/theme.js"
import { followChanges, loadInfo, restoreWork } from "./ui/work.js"

followAddress()
addEventListener("hashchange", () => {
    followAddress()
    if (!info.value) loadInfo()
})
document.title = S.name
followTheme()
const root = document.getElementById("app")
root.dataset.drop = S.welcome.drop
render(html`<${App} />`, root)
followFiles(root)
followKeyboard()
followLock()
loadInfo()
restoreWork().then(resumeChoice).then(followChanges)

function followAddress() {
    offeredKey.value = takeKeyFromAddress()
    if (offeredKey.value !== null) dialog.value = "other-key"
}
