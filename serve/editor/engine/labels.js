/** The label map: which face region every pixel belongs to, as an overlay and as masks. */

import { EditorError } from "./errors.js"
import { TILE } from "./grid.js"
import { buildLayer } from "./tiles.js"

/** Told apart by people who see colors differently, too: background, then by id. */
const COLORS = [
    "#7f7f7f", "#e69f00", "#8c564b", "#d55e00", "#cc79a7", "#0072b2", "#e8345a", "#b03060", "#f0e442", "#56b4e9",
    "#009e73",
]
const SHOWN_ALPHA = 105
const HOVERED_ALPHA = 185

export class Labels {
    /** @type {{width: number, height: number, ids: Uint8Array, names: string[], colors?: string[]}|null} */
    #plain = null

    /**
     * @param {{width: number, height: number, ids: Uint8Array, names: string[], colors?: string[]}} labels
     * @param {import("./grid.js").Grid} grid
     * @param {import("./images.js").DocumentImage} image   that they are of: a server finds others in another
     * @throws {EditorError} "wrong-size"
     */
    constructor(labels, grid, image) {
        const { width, height, ids, names, colors = [] } = labels
        if (width !== grid.width || height !== grid.height || ids.length !== width * height) {
            throw new EditorError("wrong-size", { width, height, expected: { width: grid.width, height: grid.height } })
        }
        this.width = width
        this.height = height
        this.ids = ids
        this.grid = grid
        this.image = image
        this.names = [...names]
        this.colors = this.names.map((_, id) => colors[id] ?? COLORS[id % COLORS.length])
        if (names.every((_, id) => colors[id])) this.#plain = labels
    }

    /** As the constructor takes it; the same object every time, so that it is stored once. */
    get plain() {
        const { width, height, ids, names, colors } = this
        this.#plain ??= { width, height, ids, names, colors }
        return this.#plain
    }

    /** @param {number} x photo pixels @param {number} y @returns {string|null} */
    at(x, y) {
        const column = Math.floor(x)
        const row = Math.floor(y)
        if (column < 0 || row < 0 || column >= this.width || row >= this.height) return null
        return this.names[this.ids[row * this.width + column]] ?? null
    }

    /** Fill of a display picture. @param {() => {all: boolean, hovered: string|null}} shown */
    overlayFill(shown) {
        return (out, rect, level) => {
            const palette = this.#palette(shown())
            const words = new Uint32Array(out.buffer, out.byteOffset, out.length / 4)
            const step = 1 << level
            let to = 0
            for (let y = rect.y0; y < rect.y1; y++) {
                const row = Math.min(this.height - 1, (y * step + (step >> 1))) * this.width
                for (let x = rect.x0; x < rect.x1; x++) {
                    words[to++] = palette[this.ids[row + Math.min(this.width - 1, x * step + (step >> 1))]]
                }
            }
        }
    }

    /** RGBA of every id as one word, little-endian like every machine that runs browsers. */
    #palette({ all, hovered }) {
        const palette = new Uint32Array(256)
        this.names.forEach((name, id) => {
            const alpha = name === hovered ? HOVERED_ALPHA : all ? SHOWN_ALPHA : 0
            const color = Number.parseInt(this.colors[id].slice(1), 16)
            const swapped = ((color & 255) << 16) | (color & 0xff00) | (color >> 16)
            palette[id] = alpha ? ((alpha << 24) | swapped) >>> 0 : 0
        })
        return palette
    }

    /**
     * A mask with regions put in or taken out.
     *
     * @param {import("./tiles.js").Tiles} mask   as it was
     * @param {string[]} added
     * @param {string[]} [removed]
     * @returns {import("./tiles.js").Tiles}
     */
    changeMask(mask, added, removed = []) {
        const isAdded = this.#isIn(added)
        const isRemoved = this.#isIn(removed)
        return buildLayer(this.grid, (data, index, rect) => {
            const before = mask[index]?.data
            if (before) data.set(before)
            for (let y = rect.y0; y < rect.y1; y++) {
                let from = y * this.width + rect.x0
                let to = (y - rect.y0) * TILE
                for (let x = rect.x0; x < rect.x1; x++, from++, to++) {
                    const id = this.ids[from]
                    if (isAdded[id]) data[to] = 255
                    else if (isRemoved[id]) data[to] = 0
                }
            }
        })
    }

    #isIn(names) {
        const isIn = new Uint8Array(256)
        this.names.forEach((name, id) => (isIn[id] = names.includes(name) ? 1 : 0))
        return isIn
    }
}
