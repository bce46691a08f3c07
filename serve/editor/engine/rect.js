/**
 * Rectangles of whole pixels: x0 <= x < x1, y0 <= y < y1. null is the empty one.
 *
 * @typedef {{x0: number, y0: number, x1: number, y1: number}} Rect
 */

/**
 * The smallest one around both.
 *
 * @param {Rect|null} a
 * @param {Rect|null} b
 * @returns {Rect|null}
 */
export function union(a, b) {
    if (!a || !b) return a ?? b
    return {
        x0: Math.min(a.x0, b.x0),
        y0: Math.min(a.y0, b.y0),
        x1: Math.max(a.x1, b.x1),
        y1: Math.max(a.y1, b.y1),
    }
}

/**
 * @param {Rect} a
 * @param {Rect} b
 * @returns {Rect|null}
 */
export function intersection(a, b) {
    const x0 = Math.max(a.x0, b.x0)
    const y0 = Math.max(a.y0, b.y0)
    const x1 = Math.min(a.x1, b.x1)
    const y1 = Math.min(a.y1, b.y1)
    return x0 < x1 && y0 < y1 ? { x0, y0, x1, y1 } : null
}

/**
 * @param {Rect} rect
 * @param {number} left
 * @param {number} top
 * @returns {Rect}
 */
export function moved(rect, left, top) {
    return { x0: rect.x0 + left, y0: rect.y0 + top, x1: rect.x1 + left, y1: rect.y1 + top }
}

/**
 * The whole pixels that a rectangle of real coordinates touches.
 *
 * @param {number} x0
 * @param {number} y0
 * @param {number} x1
 * @param {number} y1
 * @returns {Rect}
 */
export function around(x0, y0, x1, y1) {
    return { x0: Math.floor(x0), y0: Math.floor(y0), x1: Math.ceil(x1), y1: Math.ceil(y1) }
}
