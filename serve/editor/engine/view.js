/** Which part of the photo the canvas shows, and how large. Offsets and scale are in device pixels. */

const STEPS = [1 / 32, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32]
const MAX_SCALE = 32
/** Part of the photo that always stays in sight, in CSS pixels. */
const KEPT_IN_SIGHT = 48

export class View {
    scale = 1
    left = 0
    top = 0
    fitted = true
    /** Size of the canvas in device pixels, and device pixels per CSS pixel. */
    width = 1
    height = 1
    ratio = 1

    /**
     * @param {number} photoWidth
     * @param {number} photoHeight
     * @param {() => void} onChange
     */
    constructor(photoWidth, photoHeight, onChange) {
        this.photoWidth = photoWidth
        this.photoHeight = photoHeight
        this.onChange = onChange
    }

    /** @param {number} width device pixels @param {number} height @param {number} ratio */
    resize(width, height, ratio) {
        const [x, y] = this.toPhoto(this.width / (2 * this.ratio), this.height / (2 * this.ratio))
        const scale = (this.scale * ratio) / this.ratio
        Object.assign(this, { width, height, ratio })
        if (this.fitted) this.fit()
        else this.#place(scale, x, y, width / 2, height / 2)
    }

    /** Whoever zooms in wants to see pixels; a small photo that fills the window is to look like a photo. */
    get isSmooth() {
        return this.fitted || this.scale < 2
    }

    /** The whole photo, in the middle. */
    fit() {
        const margin = Math.min(24, Math.max(8, 0.02 * (this.width / this.ratio))) * this.ratio
        const scale = this.#fitScale(margin)
        this.#place(scale, this.photoWidth / 2, this.photoHeight / 2, this.width / 2, this.height / 2)
        this.fitted = true
        this.onChange()
    }

    #fitScale(margin) {
        const wide = (this.width - 2 * margin) / this.photoWidth
        const high = (this.height - 2 * margin) / this.photoHeight
        // Small photos are enlarged by whole multiples, whose pixels all look alike.
        const scale = Math.max(1e-3, Math.min(wide, high))
        return scale > 2 ? Math.min(MAX_SCALE, Math.floor(scale)) : scale
    }

    /** One pixel of the photo on one of the screen. */
    actual() {
        this.#zoomTo(1)
    }

    zoomIn() {
        this.#zoomTo(STEPS.find((step) => step > this.scale * 1.01) ?? MAX_SCALE)
    }

    zoomOut() {
        this.#zoomTo(STEPS.findLast((step) => step < this.scale * 0.99) ?? STEPS[0])
    }

    #zoomTo(scale) {
        this.zoomAt(scale / this.scale, this.width / (2 * this.ratio), this.height / (2 * this.ratio))
    }

    /** Zoom, the photo's point under (x, y) staying there. @param {number} factor @param {number} x CSS pixels @param {number} y */
    zoomAt(factor, x, y) {
        const [photoX, photoY] = this.toPhoto(x, y)
        const least = Math.min(STEPS[0], this.#fitScale(0))
        const scale = Math.min(MAX_SCALE, Math.max(least, this.scale * factor))
        this.fitted = false
        this.#place(scale, photoX, photoY, x * this.ratio, y * this.ratio)
        this.onChange()
    }

    /** @param {number} dx CSS pixels @param {number} dy */
    panBy(dx, dy) {
        this.fitted = false
        this.left += dx * this.ratio
        this.top += dy * this.ratio
        this.#keepInSight()
        this.onChange()
    }

    #place(scale, photoX, photoY, x, y) {
        this.scale = scale
        this.left = x - photoX * scale
        this.top = y - photoY * scale
        this.#keepInSight()
    }

    #keepInSight() {
        const kept = KEPT_IN_SIGHT * this.ratio
        const clamp = (at, size, room) => Math.min(room - Math.min(kept, room / 2), Math.max(kept - size, at))
        // Whole pixels: then the photo at 100 % is shown as it is, not between its pixels.
        this.left = Math.round(clamp(this.left, this.photoWidth * this.scale, this.width))
        this.top = Math.round(clamp(this.top, this.photoHeight * this.scale, this.height))
    }

    /** @param {number} x CSS pixels in the canvas @param {number} y @returns {[number, number]} in photo pixels */
    toPhoto(x, y) {
        return [(x * this.ratio - this.left) / this.scale, (y * this.ratio - this.top) / this.scale]
    }

    /** @param {number} x photo pixels @param {number} y @returns {[number, number]} CSS pixels in the canvas */
    toCanvas(x, y) {
        return [(x * this.scale + this.left) / this.ratio, (y * this.scale + this.top) / this.ratio]
    }
}
