/** Side of a square in pixels. */
export const TILE = 256

/** How a photo is cut into squares. */
export class Grid {
    /**
     * @param {number} width   of the photo in pixels
     * @param {number} height
     */
    constructor(width, height) {
        this.width = width
        this.height = height
        this.columns = Math.ceil(width / TILE)
        this.rows = Math.ceil(height / TILE)
    }

    /** @returns {import("./tiles.js").Tiles} */
    empty() {
        return new Array(this.columns * this.rows).fill(null)
    }

    left(index) {
        return (index % this.columns) * TILE
    }

    top(index) {
        return Math.floor(index / this.columns) * TILE
    }

    /** Squares that a rectangle touches. @param {import("./rect.js").Rect} rect @returns {number[]} */
    touched({ x0, y0, x1, y1 }) {
        const found = []
        const lastRow = Math.min(this.rows - 1, Math.floor((y1 - 1) / TILE))
        const lastColumn = Math.min(this.columns - 1, Math.floor((x1 - 1) / TILE))
        for (let row = Math.max(0, Math.floor(y0 / TILE)); row <= lastRow; row++) {
            for (let column = Math.max(0, Math.floor(x0 / TILE)); column <= lastColumn; column++) {
                found.push(row * this.columns + column)
            }
        }
        return found
    }

    /** A square's rectangle in the photo, cut at its border. @returns {import("./rect.js").Rect} */
    rect(index) {
        const x0 = this.left(index)
        const y0 = this.top(index)
        return { x0, y0, x1: Math.min(this.width, x0 + TILE), y1: Math.min(this.height, y0 + TILE) }
    }
}
