/** While a request is under way or results wait for a choice, the photo can be moved, but not changed. */

import { effect, untracked } from "../vendor/signals_core.js"
import { currentDocument, locked } from "./state.js"

/** Keep the document locked as long as the page is. */
export function followLock() {
    effect(() => {
        const isLocked = locked.value
        const doc = currentDocument.value
        untracked(() => {
            if (doc && doc.locked !== isLocked) doc.locked = isLocked
        })
    })
}
