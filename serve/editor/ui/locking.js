/** While a request is under way or results wait for a choice, the photo can be moved, but not changed. */

import { effect, untracked } from "../vendor/signals_core.js"
import { currentDocument, locked } from "./state.js"

/** Put the tool aside as long as the document is locked. */
export function followLock() {
    let kept = null
    effect(() => {
        const isLocked = locked.value
        const doc = currentDocument.value
        untracked(() => {
            if (isLocked && doc && kept?.doc !== doc) {
                kept = { doc, tool: doc.tool }
                doc.tool = "pan"
            } else if (!isLocked && kept) {
                kept.doc.tool = kept.tool
                kept = null
            }
        })
    })
}
