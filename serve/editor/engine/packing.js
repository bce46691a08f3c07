/** Squares in less memory: differences between neighbors, deflated. Soft paint then takes a thirteenth. */

import { inflateSync } from "../vendor/fflate.js"
import { TILE } from "./grid.js"
import { compressed } from "./png.js"

/** @param {Uint8Array} square  of 1 byte a pixel, or of 4 @returns {Promise<Uint8Array>} */
export async function packed(square) {
    const channels = square.length / (TILE * TILE)
    const differences = square.slice()
    for (let at = channels; at < square.length; at++) differences[at] = square[at] - square[at - channels]
    return compressed([differences], "deflate-raw")
}

/** The reverse, at once: an undo waits for it. @param {Uint8Array} bytes @returns {Uint8Array} */
export function unpacked(bytes) {
    const square = inflateSync(bytes)
    const channels = square.length / (TILE * TILE)
    for (let at = channels; at < square.length; at++) square[at] += square[at - channels]
    return square
}
