import { useId, useState } from "../vendor/preact_hooks.js"
import { looksLikeKey, storeKey, storedKey } from "../api/key.js"
import { S } from "../strings.js"
import { Button, Switch } from "./controls.js"
import { Dialog } from "./dialog.js"
import { DownloadDialog } from "./download_dialog.js"
import { html } from "./html.js"
import { currentDocument, dialog, info, offeredKey } from "./state.js"
import { SHORTCUTS, setSingleKeys, singleKeys } from "./shortcuts.js"
import { continueAfterKey } from "./troubles.js"
import { answerReplace, closeAndForget, loadInfo } from "./work.js"

/** The dialog that is open, if any. */
export function Dialogs() {
    switch (dialog.value) {
        case "help": return html`<${HelpDialog} />`
        case "download": return html`<${DownloadDialog} />`
        case "key": return html`<${KeyDialog} />`
        case "new": return html`<${ReplaceDialog} />`
        case "forget": return html`<${ForgetDialog} />`
        case "other-key": return html`<${OtherKeyDialog} />`
        default: return null
    }
}

function HelpDialog() {
    return html`<${Dialog} title=${S.help.title} className="help">
        <div class="help-groups">
            ${Object.entries(S.help.groups).map(
                ([group, title]) => html`<section key=${group}>
                    <h3>${title}</h3>
                    <dl>
                        ${SHORTCUTS.filter((shortcut) => shortcut.group === group).map(
                            ({ name, shown }) => html`<div key=${name}>
                                <dt>${S.help.shortcuts[name]}</dt>
                                <dd>${shown.split(" ").map((key) => html`<kbd>${key}</kbd>`)}</dd>
                            </div>`,
                        )}
                    </dl>
                </section>`,
            )}
        </div>
        <p class="hint">${S.help.gestures}</p>
        ${currentDocument.value && html`<div class="help-forget">
            <p class="hint">${S.forget.about}</p>
            <${Button} icon="close" label=${S.forget.label} onClick=${() => (dialog.value = "forget")} />
        </div>`}
        <div class="dialog-foot">
            <${Switch} label=${S.help.singleKeys} checked=${singleKeys.value} onChange=${setSingleKeys} />
            <a href="../docs" target="_blank" rel="noreferrer">${S.help.docs}</a>
        </div>
    <//>`
}

function KeyDialog() {
    const [problem, setProblem] = useState(storedKey() ? S.key.refused : "")
    const id = useId()
    const submit = (event) => {
        event.preventDefault()
        const key = event.currentTarget.elements.key.value
        if (!looksLikeKey(key)) {
            setProblem(S.key.malformed)
            return
        }
        storeKey(key)
        dialog.value = null
        if (!info.value) loadInfo()
        continueAfterKey()
    }
    return html`<${Dialog} title=${S.key.title} className="small">
        <form onSubmit=${submit}>
            <p>${S.key.text}</p>
            <div class="field">
                <label for=${id}>${S.key.label}</label>
                <input id=${id} name="key" type="password" autocomplete="off" spellcheck=${false} autofocus
                    placeholder=${S.key.placeholder} aria-invalid=${String(problem !== "")}
                    aria-describedby=${`${id}-problem`} />
                <p class="hint warning" id=${`${id}-problem`} role="alert">${problem}</p>
            </div>
            <div class="dialog-foot"><button class="button primary"><span>${S.key.save}</span></button></div>
        </form>
    <//>`
}

function ReplaceDialog() {
    const close = () => answerReplace(false)
    return html`<${Dialog} title=${S.confirm.title} className="small" onClose=${close}>
        <p>${S.confirm.text}</p>
        <div class="dialog-foot">
            <${Button} label=${S.confirm.back} onClick=${close} autofocus />
            <${Button} kind="danger" label=${S.confirm.replace} onClick=${() => answerReplace(true)} />
        </div>
    <//>`
}

function ForgetDialog() {
    const close = () => (dialog.value = null)
    return html`<${Dialog} title=${S.forget.title} className="small">
        <p>${S.forget.text}</p>
        <div class="dialog-foot">
            <${Button} label=${S.confirm.back} onClick=${close} autofocus />
            <${Button} kind="danger" label=${S.forget.label} onClick=${closeAndForget} />
        </div>
    <//>`
}

function OtherKeyDialog() {
    const close = () => {
        offeredKey.value = null
        dialog.value = null
    }
    const take = () => {
        storeKey(offeredKey.value)
        close()
        if (!info.value) loadInfo()
        continueAfterKey()
    }
    return html`<${Dialog} title=${S.otherKey.title} className="small" onClose=${close}>
        <p>${S.otherKey.text}</p>
        <div class="dialog-foot">
            <${Button} label=${S.otherKey.keep} onClick=${close} autofocus />
            <${Button} label=${S.otherKey.take} onClick=${take} />
        </div>
    <//>`
}
