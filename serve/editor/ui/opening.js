/** Files that are dropped or pasted anywhere in the page. */

import { openFile } from "./work.js"

/** Listen to drops and pastes. @param {HTMLElement} root   gets the class "dropping" under a file */
export function followFiles(root) {
    let depth = 0 // enter and leave also come for every element inside
    addEventListener("dragenter", (event) => {
        if (!hasFiles(event)) return
        depth++
        root.classList.add("dropping")
    })
    addEventListener("dragleave", () => {
        depth = Math.max(0, depth - 1)
        if (depth === 0) root.classList.remove("dropping")
    })
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault())
    addEventListener("drop", (event) => {
        event.preventDefault() // else the browser would leave the page for the file
        depth = 0
        root.classList.remove("dropping")
        openFile(event.dataTransfer?.files[0])
    })
    addEventListener("paste", (event) => {
        const file = event.clipboardData?.files[0]
        if (!file) return
        event.preventDefault()
        openFile(file)
    })
}

function hasFiles(event) {
    return event.dataTransfer?.types.includes("Files") ?? false
}
