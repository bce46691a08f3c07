/**
 * Layers as squares of pixels that never change: a stroke makes new squares, the old ones stay in the
 * history, and two steps share what is equal in both. null is a square of zeros.
 *
 * @typedef {(Tile|null)[]} Tiles   of one layer, row by row
 */

import { TILE } from "./grid.js"
import { unpacked } from "./packing.js"
import { packSquares } from "./pixel_jobs.js"

/** Squares that are copied to the worker at one time: 2 MB. */
const BATCH = 8

export class Tile {
    #data
    #packed

    /**
     * @param {Uint8Array|null} data  TILE x TILE pixels of 1 byte or of 4; the tile's own from now on
     * @param {Uint8Array|null} [packed]  the same, as packing.js has it; one of the two may be null
     */
    constructor(data, packed = null) {
        this.#data = data
        this.#packed = packed
    }

    /** Pixels; not to be written to. @returns {Uint8Array} */
    get data() {
        this.#data ??= unpacked(this.#packed)
        return this.#data
    }

    /** @returns {Uint8Array|null} */
    get packed() {
        return this.#packed
    }

    /** Keep the packed form alone, a small part of the memory; `data` unpacks it again. */
    rest() {
        if (this.#packed) this.#data = null
    }

    get resting() {
        return this.#data === null
    }

    /** Memory in bytes. */
    get bytes() {
        return (this.#data?.byteLength ?? 0) + (this.#packed?.byteLength ?? 0)
    }

    /** Give all of them their packed form, beside the page's own thread. @param {Tile[]} tiles */
    static async pack(tiles) {
        const unpacked = tiles.filter((tile) => tile.#packed === null)
        for (let at = 0; at < unpacked.length; at += BATCH) {
            const batch = unpacked.slice(at, at + BATCH)
            const packed = await packSquares(batch.map((tile) => tile.data))
            batch.forEach((tile, number) => (tile.#packed = packed[number]))
        }
    }
}

/**
 * A layer of one byte a pixel from a function of each square.
 *
 * @param {import("./grid.js").Grid} grid
 * @param {(data: Uint8Array, index: number, rect: import("./rect.js").Rect) => void} fill
 *   writes the square's pixels, row by row of TILE bytes, inside `rect` only
 * @returns {Tiles}
 */
export function buildLayer(grid, fill) {
    return grid.empty().map((_, index) => {
        const data = new Uint8Array(TILE * TILE)
        fill(data, index, grid.rect(index))
        return tileOf(data)
    })
}

/** @param {Tiles} tiles */
export const isEmpty = (tiles) => tiles.every((tile) => tile === null)

/** A tile of these pixels; null when all are zero. @param {Uint8Array} data @returns {Tile|null} */
export function tileOf(data) {
    for (const word of words(data)) if (word !== 0) return new Tile(data)
    return null
}

/** @param {Uint8Array} a @param {Uint8Array} b */
export function samePixels(a, b) {
    const left = words(a)
    const right = words(b)
    for (let at = 0; at < left.length; at++) if (left[at] !== right[at]) return false
    return true
}

/** The same memory as 32-bit words, to look at four bytes at a time. */
function words(data) {
    return new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4)
}
