import { S, formatSize } from "../strings.js"
import { Button } from "./controls.js"
import { Dialog } from "./dialog.js"
import { currentImage, nameOf, saveEnlarged, saveExact, saveJpeg, saveReceipt, saveReceipts, saveRecipe } from "./files.js"
import { html } from "./html.js"
import { candidates, dialog, info, job, useDocument } from "./state.js"

const TYPE_NAMES = { "image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WebP" }

/** The image in the forms there are, its receipts and its recipe. */
export function DownloadDialog() {
    const doc = useDocument()
    const { blob, type, metadata } = currentImage()
    const made = metadata?.editor
    const isEdited = metadata !== null
    const wasJpeg = doc.upload.type === "image/jpeg"
    const isBusy = job.value !== null
    return html`<${Dialog} title=${S.downloads.title} className="downloads">
        <ul class="download-list">
            <${Item} icon="images" title=${S.downloads.file(TYPE_NAMES[type] ?? type)} detail=${formatSize(blob.size)}
                hint=${isEdited ? S.downloads.exact : S.downloads.unchanged} kind="primary" onSave=${closing(saveExact)} />
            ${isEdited && wasJpeg && made && html`<${Item} title=${S.downloads.jpeg} hint=${S.downloads.jpegHint}
                disabled=${isBusy} onSave=${closing(saveJpeg)} />`}
            <${Item} title=${S.downloads.upscaled} hint=${S.downloads.upscaledHint} disabled=${isBusy}
                onSave=${closing(saveEnlarged)} />
            ${made && html`<${Item} title=${S.downloads.recipe} hint=${S.downloads.recipeHint} onSave=${closing(saveRecipe)} />`}
        </ul>
        <${Receipts} receipts=${made?.receipts ?? []} />
        ${candidates.value && html`<p class="hint warning">${S.downloads.pending}</p>`}
    <//>`
}

function Item({ title, detail, hint, kind, disabled, onSave }) {
    return html`<li class="download-item">
        <div>
            <strong>${title}</strong> ${detail && html`<span class="hint">${detail}</span>`}
            <p class="hint">${hint}</p>
        </div>
        <${Button} icon="download" kind=${kind} label=${S.downloads.save} aria-label=${`${S.downloads.save}: ${title}`}
            disabled=${disabled} onClick=${onSave} />
    </li>`
}

function Receipts({ receipts }) {
    if (receipts.length === 0) {
        const signs = (info.value?.receipt_keys ?? []).length > 0
        return signs ? null : html`<p class="hint">${S.downloads.noReceipts}</p>`
    }
    return html`<section class="receipts">
        <h3>${S.downloads.receipts}</h3>
        <p class="hint">${S.downloads.receiptsHint}</p>
        <div class="button-row">
            ${receipts.length > 1 && html`<${Button} icon="download" label=${S.downloads.allReceipts}
                onClick=${() => saveReceipts(receipts)} />`}
            ${receipts.map((receipt, index) => {
                const ending = receipts.length > 1 ? `receipt-${index + 1}.json` : "receipt.json"
                return html`<${Button} key=${index} icon="receipt" label=${S.downloads.receipt(index + 1, receipts.length)}
                    onClick=${() => saveReceipt(receipt, nameOf(ending))} />`
            })}
        </div>
    </section>`
}

function closing(save) {
    return () => {
        dialog.value = null
        save()
    }
}
