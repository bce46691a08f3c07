import { useEffect, useRef } from "../vendor/preact_hooks.js"
import { S } from "../strings.js"
import { IconButton } from "./controls.js"
import { html } from "./html.js"
import { Notice } from "./notice.js"
import { hovered, useDocument, view } from "./state.js"
import { ToolOptions } from "./tool_options.js"
import { toggleCompare, toggleOverlay } from "./tools.js"
import { TroubleCard } from "./trouble_card.js"

/** Arrow keys move the view over the photo, so the photo moves the other way. */
const MOVES = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }
const MOVE_BY = 60 // CSS pixels

/** The photo, and what floats over it. */
export function Stage() {
    const doc = useDocument()
    return html`<main class="stage" id="stage" aria-label=${S.stage.label}>
        <${ToolOptions} />
        <div class="canvas-box">
            <${Canvas} doc=${doc} key=${doc} />
            <${HoverName} />
            ${doc.compare !== null && html`<${CompareLabels} />`}
            <div class="stage-float"><${Notice} /><${TroubleCard} /></div>
        </div>
        <${ViewBar} />
    </main>`
}

function Canvas({ doc }) {
    const canvas = useRef(null)
    useEffect(() => {
        doc.attach(canvas.current)
        // The button that opened the photo is gone. After a reload nothing had the focus.
        const isOpened = navigator.userActivation?.hasBeenActive
        if (isOpened && document.activeElement === document.body) canvas.current.focus()
        return () => doc.detach()
    }, [doc])
    const move = (event) => {
        const [dx, dy] = MOVES[event.key] ?? [0, 0]
        if (!dx && !dy) return
        event.preventDefault()
        doc.view.panBy(dx * MOVE_BY, dy * MOVE_BY)
    }
    return html`<canvas ref=${canvas} class="canvas" tabIndex="0" role="img" onKeyDown=${move}
        aria-label=${S.stage.canvas(doc.name)}></canvas>`
}

function HoverName() {
    const { region, x, y } = hovered.value ?? {}
    const doc = useDocument()
    if (!region || doc.activeTool !== "region") return null
    return html`<span class="hover-name" style=${{ left: `${x}px`, top: `${y}px` }} aria-hidden="true">
        ${S.regions.names[region] ?? region}
    </span>`
}

/** Which side is which, while the photo is divided. */
function CompareLabels() {
    const doc = useDocument()
    view.value // the divider moves with the photo
    const [x] = doc.view.toCanvas(doc.compare * doc.width, 0)
    return html`<div class="compare-labels" aria-hidden="true" style=${{ "--at": `${x}px` }}>
        <span class="compare-before">${S.stage.before}</span>
        <span class="compare-after">${S.stage.after}</span>
    </div>`
}

function ViewBar() {
    const doc = useDocument()
    const { scale, fitted } = view.value
    return html`<div class="view-bar" role="group" aria-label=${S.stage.zoom}>
        <${IconButton} icon="regions" side="top" label=${S.stage.overlay} keys="L" pressed=${doc.overlay}
            disabled=${!doc.labels} onClick=${toggleOverlay} />
        <${IconButton} icon="compare" side="top" label=${S.stage.compare} keys="C"
            pressed=${doc.compare !== null} onClick=${toggleCompare} />
        ${doc.compare !== null && html`<input class="compare-range" type="range" min="0" max="1" step="0.01"
            value=${doc.compare} aria-label=${S.stage.compareSlider}
            aria-valuetext=${S.stage.compareText(doc.compare)}
            style=${{ "--share": `${doc.compare * 100}%` }}
            onInput=${(event) => (doc.compare = event.currentTarget.valueAsNumber)} />`}
        <span class="divider"></span>
        <${IconButton} icon="zoomOut" side="top" label=${S.stage.zoomOut} keys="-" onClick=${() => doc.view.zoomOut()} />
        <button type="button" class="zoom-value tip-top" data-tip=${S.stage.actual} aria-label=${`${S.stage.scale(scale)}, ${S.stage.actual}`}
            onClick=${() => doc.view.actual()}>${S.stage.scale(scale)}</button>
        <${IconButton} icon="zoomIn" side="top" label=${S.stage.zoomIn} keys="+" onClick=${() => doc.view.zoomIn()} />
        <${IconButton} icon="fit" side="top" label=${S.stage.fitTip} keys="0" pressed=${fitted} onClick=${() => doc.view.fit()} />
    </div>`
}
