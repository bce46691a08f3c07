/**
 * Every state of the work, shared square by square. States far from the current one rest packed; the oldest go
 * when there are too many, or when they take too much memory.
 */

import { Tile } from "./tiles.js"

const MAX_STEPS = 100
const MEMORY_BUDGET = 384 * 2 ** 20
const AT_A_TIME = 32
const LAYERS = ["paint", "mask", "restraint"]

/**
 * @typedef {object} Work   never changed once it is made
 * @property {import("./tiles.js").Tiles} paint       RGBA, not premultiplied
 * @property {import("./tiles.js").Tiles} mask        0 or 255
 * @property {import("./tiles.js").Tiles} restraint   255 - strength
 * @property {string[]} regions       selected ones
 * @property {boolean} maskIsRegions  the mask is exactly these regions: no brush has changed it
 * @property {string|null} maskColor
 * @property {import("./images.js").DocumentImage} base
 * @property {import("./images.js").DocumentImage|null} result
 *
 * @typedef {{label: string|null, work: Work}} Step   label: what led to it
 */

export class History {
    /** @param {Step[]} steps @param {number} [position] */
    constructor(steps, position = 0) {
        this.steps = steps
        this.position = position
    }

    get work() {
        return this.steps[this.position].work
    }

    get undoLabel() {
        return this.steps[this.position].label
    }

    get redoLabel() {
        return this.steps[this.position + 1]?.label ?? null
    }

    /** @param {Work} work @param {string} label */
    push(work, label) {
        this.steps = [...this.steps.slice(0, this.position + 1), { label, work }]
        this.position += 1
        while (this.steps.length > MAX_STEPS + 1) this.#forgetOldest()
    }

    #forgetOldest() {
        this.steps = this.steps.slice(1)
        this.steps[0] = { ...this.steps[0], label: null }
        this.position -= 1
    }

    /** Memory of all squares in bytes. */
    get bytes() {
        let bytes = 0
        for (const tile of tilesOf(this.steps)) bytes += tile.bytes
        return bytes
    }

    /**
     * Pack a few of the squares that neither the current work nor its neighbors show.
     *
     * @returns {Promise<boolean>}   whether something is left to do
     */
    async tidy() {
        const near = this.#near()
        const awake = [...tilesOf(this.steps)].filter((tile) => !tile.resting && !near.has(tile))
        const few = awake.slice(0, AT_A_TIME)
        await Tile.pack(few)
        // Meanwhile somebody may have gone back to them.
        const nearNow = this.#near()
        for (const tile of few) if (!nearNow.has(tile)) tile.rest()
        if (few.length) return true
        while (this.position > 0 && this.bytes > MEMORY_BUDGET) this.#forgetOldest()
        return false
    }

    /** What an undo or a redo shows at once. */
    #near() {
        return tilesOf(this.steps.slice(Math.max(0, this.position - 1), this.position + 2))
    }
}

/** @param {Step[]} steps @returns {Set<import("./tiles.js").Tile>} */
export function tilesOf(steps) {
    const found = new Set()
    for (const { work } of steps) {
        for (const layer of LAYERS) {
            for (const tile of work[layer]) if (tile) found.add(tile)
        }
    }
    return found
}
