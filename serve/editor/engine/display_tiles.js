/**
 * A layer as the screen needs it: pictures of DISPLAY x DISPLAY pixels at the next power of two above the view's
 * scale, made when first seen and mended where the layer changes. Drawing them costs what the screen
 * has pixels, not what the photo has.
 */

import { intersection } from "./rect.js"

const DISPLAY = 256

/**
 * Level of detail: one of its pixels is 2 ** level of the photo's, and half a pixel to one of the screen.
 *
 * @param {number} scale  device pixels per photo pixel
 */
export function levelFor(scale) {
    return Math.max(0, Math.min(6, Math.floor(-Math.log2(scale) + 1e-9)))
}

export class DisplayTiles {
    #level = -1
    /** @type {Map<number, OffscreenCanvasRenderingContext2D>} */
    #pictures = new Map()

    /**
     * @param {number} width   of the photo
     * @param {number} height
     * @param {(out: Uint8ClampedArray, rect: import("./rect.js").Rect, level: number) => void} fill
     *   writes RGBA, not premultiplied, for a rectangle in pixels of a level
     */
    constructor(width, height, fill) {
        this.width = width
        this.height = height
        this.fill = fill
    }

    /** Forget all pictures: everything may have changed. */
    clear() {
        this.#pictures.clear()
    }

    /** Mend the pictures of a rectangle of the photo. @param {import("./rect.js").Rect} rect */
    update(rect) {
        const shrink = 2 ** this.#level
        const wanted = {
            x0: Math.floor(rect.x0 / shrink),
            y0: Math.floor(rect.y0 / shrink),
            x1: Math.ceil(rect.x1 / shrink),
            y1: Math.ceil(rect.y1 / shrink),
        }
        this.#forPictures(wanted, (key, place) => {
            const picture = this.#pictures.get(key)
            if (picture) this.#render(picture, place, intersection(wanted, place))
        })
    }

    /**
     * @param {CanvasRenderingContext2D} context   clipped to what is drawn anew
     * @param {import("./view.js").View} view
     * @param {import("./rect.js").Rect} dirty     the same in device pixels
     */
    draw(context, view, dirty) {
        const level = levelFor(view.scale)
        if (level !== this.#level) {
            this.#level = level
            this.clear()
        }
        const scale = view.scale * 2 ** level
        const seen = {
            x0: Math.floor((dirty.x0 - view.left) / scale) - 1,
            y0: Math.floor((dirty.y0 - view.top) / scale) - 1,
            x1: Math.ceil((dirty.x1 - view.left) / scale) + 1,
            y1: Math.ceil((dirty.y1 - view.top) / scale) + 1,
        }
        this.#forPictures(seen, (key, place) => {
            const picture = this.#pictures.get(key) ?? this.#make(key, place)
            // Edges on whole pixels of the screen: no seams shine through.
            const x0 = Math.round(view.left + place.x0 * scale)
            const y0 = Math.round(view.top + place.y0 * scale)
            const x1 = Math.round(view.left + place.x1 * scale)
            const y1 = Math.round(view.top + place.y1 * scale)
            const { width, height } = picture.canvas
            context.drawImage(picture.canvas, 0, 0, width, height, x0, y0, x1 - x0, y1 - y0)
        })
    }

    #make(key, place) {
        const canvas = new OffscreenCanvas(place.x1 - place.x0, place.y1 - place.y0)
        const picture = canvas.getContext("2d", { willReadFrequently: true }) // painted by the CPU, so kept there
        this.#pictures.set(key, picture)
        this.#render(picture, place, place)
        return picture
    }

    #render(picture, place, rect) {
        const image = new ImageData(rect.x1 - rect.x0, rect.y1 - rect.y0)
        this.fill(image.data, rect, this.#level)
        picture.putImageData(image, rect.x0 - place.x0, rect.y0 - place.y0)
    }

    /** Visit the pictures that a rectangle in pixels of the level touches. */
    #forPictures(rect, visit) {
        const shrink = 2 ** this.#level
        const width = Math.ceil(this.width / shrink)
        const height = Math.ceil(this.height / shrink)
        const columns = Math.ceil(width / DISPLAY)
        for (let y0 = floorTo(Math.max(0, rect.y0)); y0 < Math.min(height, rect.y1); y0 += DISPLAY) {
            for (let x0 = floorTo(Math.max(0, rect.x0)); x0 < Math.min(width, rect.x1); x0 += DISPLAY) {
                const place = { x0, y0, x1: Math.min(width, x0 + DISPLAY), y1: Math.min(height, y0 + DISPLAY) }
                visit((y0 / DISPLAY) * columns + x0 / DISPLAY, place)
            }
        }
    }
}

const floorTo = (at) => Math.floor(at / DISPLAY) * DISPLAY
