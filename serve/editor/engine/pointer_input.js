/** From pointers, pens, fingers and wheels to actions; positions are CSS pixels in the canvas. */

/** A second finger within this time means a pinch from the start: the first one's dab is taken back. */
const PINCH_DELAY_MS = 350

/**
 * @typedef {object} Actions
 * @property {() => "stroke"|"eyedropper"|"region"|"pan"|"compare"} mode   of the primary button
 * @property {(eraser: boolean) => void} strokeStart
 * @property {(x: number, y: number, pressure: number, time: number) => void} strokePoint   pressure: 0..1
 * @property {() => void} strokeEnd
 * @property {() => void} strokeCancel
 * @property {(x: number, y: number) => void} pick          a color
 * @property {(x: number, y: number, add: boolean) => void} select   a region
 * @property {(x: number) => void} compareAt
 * @property {(x: number, y: number, pointerType: string) => void} hover
 * @property {() => void} leave
 */

export class PointerInput {
    /** What the pointer that is down does; null between. @type {string|null} */
    #action = null
    #pointerId = null
    #startTime = 0
    #lastX = 0
    #lastY = 0
    #touches = new Map()
    #penSeen = false
    #listening = new AbortController()

    /**
     * @param {HTMLCanvasElement} canvas
     * @param {import("./view.js").View} view
     * @param {Actions} actions
     */
    constructor(canvas, view, actions) {
        this.canvas = canvas
        this.view = view
        this.actions = actions
        canvas.style.touchAction = "none"
        const listen = (type, handler, options = {}) =>
            canvas.addEventListener(type, handler, { signal: this.#listening.signal, ...options })
        listen("pointerdown", (event) => this.#down(event))
        listen("pointermove", (event) => this.#move(event))
        listen("pointerup", (event) => this.#up(event, false))
        listen("pointercancel", (event) => this.#up(event, true))
        listen("pointerleave", () => this.#action ?? this.actions.leave())
        listen("wheel", (event) => this.#wheel(event), { passive: false })
        // A long touch and a pen's second button would open it in the middle of a stroke.
        listen("contextmenu", (event) => event.preventDefault())
        // The middle button pans; its page scrolling starts with mousedown.
        listen("mousedown", (event) => event.button === 1 && event.preventDefault())
    }

    detach() {
        this.#listening.abort()
    }

    #place(event) {
        const { left, top } = this.canvas.getBoundingClientRect()
        return [event.clientX - left, event.clientY - top]
    }

    #down(event) {
        const [x, y] = this.#place(event)
        if (event.pointerType === "pen") this.#penSeen = true
        if (event.pointerType === "touch" && this.#touchDown(event, x, y)) return
        if (this.#action) return
        this.canvas.setPointerCapture(event.pointerId)
        this.#pointerId = event.pointerId
        this.#startTime = event.timeStamp
        ;[this.#lastX, this.#lastY] = [x, y]
        this.#start(event, x, y)
    }

    /** @returns {boolean} whether the finger is one of several */
    #touchDown(event, x, y) {
        this.#touches.set(event.pointerId, { x, y })
        if (this.#touches.size === 1) return false
        if (this.#action === "stroke") {
            const isPinch = event.timeStamp - this.#startTime < PINCH_DELAY_MS
            if (isPinch) this.actions.strokeCancel()
            else this.actions.strokeEnd()
        }
        this.canvas.setPointerCapture(event.pointerId)
        this.#action = "pinch"
        return true
    }

    #start(event, x, y) {
        const isEraser = event.pointerType === "pen" && (event.buttons & 32) !== 0
        if (event.button === 1) this.#action = "pan"
        else if (event.button !== 0 && !isEraser) return
        // Where there is a pen, hands rest on the screen: fingers move the photo and do not paint.
        else if (event.pointerType === "touch" && this.#penSeen) this.#action = "pan"
        else this.#action = this.actions.mode()
        if (this.#action === "stroke" && event.altKey) this.#action = "eyedropper"
        this.actions.hover(x, y, event.pointerType)
        if (this.#action === "stroke") {
            this.actions.strokeStart(isEraser)
            this.#strokePoint(event)
        } else if (this.#action === "eyedropper") this.actions.pick(x, y)
        else if (this.#action === "region") this.actions.select(x, y, event.shiftKey)
        else if (this.#action === "compare") this.actions.compareAt(x)
    }

    #strokePoint(event) {
        const [x, y] = this.#place(event)
        const pressure = event.pointerType === "pen" ? event.pressure : 1
        this.actions.strokePoint(x, y, pressure, event.timeStamp)
    }

    #move(event) {
        const [x, y] = this.#place(event)
        if (this.#action === "pinch") return this.#pinch(event, x, y)
        if (this.#action && event.pointerId !== this.#pointerId) return
        if (this.#action === "stroke") {
            // Between two frames a pen reports several places; without them fast curves have corners.
            const events = event.getCoalescedEvents?.() ?? []
            for (const each of events.length ? events : [event]) this.#strokePoint(each)
        } else if (this.#action === "pan") {
            this.view.panBy(x - this.#lastX, y - this.#lastY)
            ;[this.#lastX, this.#lastY] = [x, y]
        } else if (this.#action === "eyedropper") this.actions.pick(x, y)
        else if (this.#action === "compare") this.actions.compareAt(x)
        this.actions.hover(x, y, event.pointerType)
    }

    #pinch(event, x, y) {
        const moving = this.#touches.get(event.pointerId)
        const other = [...this.#touches].find(([id]) => id !== event.pointerId)?.[1]
        if (!moving || !other) return
        const spread = (point) => Math.max(8, Math.hypot(point.x - other.x, point.y - other.y))
        const factor = spread({ x, y }) / spread(moving)
        this.view.panBy((x - moving.x) / 2, (y - moving.y) / 2)
        this.view.zoomAt(factor, (x + other.x) / 2, (y + other.y) / 2)
        this.#touches.set(event.pointerId, { x, y })
    }

    #up(event, cancelled) {
        this.#touches.delete(event.pointerId)
        if (this.#action === "pinch") {
            // The last finger of a pinch must not start to paint.
            if (this.#touches.size === 0) this.#action = null
            return
        }
        if (event.pointerId !== this.#pointerId) return
        if (this.#action === "stroke") {
            if (cancelled) this.actions.strokeCancel()
            else this.actions.strokeEnd()
        }
        this.#action = null
        this.#pointerId = null
        if (event.pointerType === "touch") this.actions.leave()
    }

    #wheel(event) {
        event.preventDefault()
        const [x, y] = this.#place(event)
        const unit = [1, 16, 400][event.deltaMode]
        if (event.shiftKey) return this.view.panBy(-(event.deltaX || event.deltaY) * unit, 0)
        // Trackpads report pinches as a wheel with Ctrl held, in small steps.
        const speed = event.ctrlKey ? 0.01 : 0.0015
        const most = event.ctrlKey ? 25 : 300 // a mouse's wheel with Ctrl makes large ones
        const delta = Math.max(-most, Math.min(most, event.deltaY * unit))
        return this.view.zoomAt(Math.exp(-delta * speed), x, y)
    }
}
