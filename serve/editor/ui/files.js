/** Files that the page hands out: the image, its receipts, its recipe. */

import { writeRecipe } from "../api/recipe.js"
import { S } from "../strings.js"
import { strToU8, zipSync } from "../vendor/fflate.js"
import { enlarge, makeJpeg } from "./enhance.js"
import { currentDocument } from "./state.js"
import { showNotice } from "./troubles.js"

const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" }

/** The image that counts now, with what made it. @returns {import("../engine/document.js").DocumentImage|null} */
export function currentImage() {
    return currentDocument.value?.current ?? null
}

/** Save the current image's own bytes: never encoded anew. */
export function saveExact() {
    const { blob, type } = currentImage()
    saveAs(blob, nameOf(`edited.${ENDINGS[type] ?? "png"}`))
}

/** Save a JPEG of the current edit, made anew by the server, with its receipt where there is one. */
export async function saveJpeg() {
    const { request } = currentImage().metadata.editor
    const name = nameOf("edited.jpg")
    // Another try is of the same edit, whatever has been done since.
    const save = async () => {
        const made = await makeJpeg(request, save)
        if (!made) return
        saveAs(made.blob, name)
        if (made.receipt) saveReceipt(made.receipt, `${name}.receipt.json`)
    }
    await save()
}

export async function saveEnlarged() {
    const image = currentImage().blob
    const name = nameOf("enlarged.png")
    const save = async () => {
        const blob = await enlarge(image, save)
        if (blob) saveAs(blob, name)
    }
    await save()
}

/** @param {object} receipt @param {string} name */
export function saveReceipt(receipt, name) {
    saveAs(new Blob([JSON.stringify(receipt)], { type: "application/json" }), name)
}

/** Save all in one file: a browser may stop many downloads in a row. @param {object[]} receipts */
export function saveReceipts(receipts) {
    const entries = receipts.map((receipt, index) => [
        nameOf(`receipt-${index + 1}.json`), strToU8(JSON.stringify(receipt)),
    ])
    saveAs(new Blob([zipSync(Object.fromEntries(entries))], { type: "application/zip" }), nameOf("receipts.zip"))
}

export async function saveRecipe() {
    const { request } = currentImage().metadata.editor
    saveAs(await writeRecipe(request, stem()), nameOf("recipe.json"))
}

/** @param {Blob} blob @param {string} name */
function saveAs(blob, name) {
    const url = URL.createObjectURL(blob)
    const link = document.createElement("a")
    link.href = url
    link.download = name
    link.click()
    setTimeout(() => URL.revokeObjectURL(url), 60000) // the browser may still be reading it
    showNotice(S.downloads.saved(name))
}

/** Name a file after the upload. @param {string} ending */
export function nameOf(ending) {
    return `${stem()}-${ending}`
}

/** The upload's name without its ending, as a name that every system takes. */
function stem() {
    const name = currentDocument.value.name.replace(/\.[^.]*$/, "")
    return name.replace(/[^\p{L}\p{N}._ -]+/gu, "_").slice(0, 80) || "photo"
}
