/**
 * Paint that gives a region a color and keeps its light and shade: the server's own way with a request's `color`
 * (src/neural_photo_editor/imaging/recoloring.py says why each step is as it is; numbers are the same).
 */

const LUMA = [0.299, 0.587, 0.114] // ITU-R BT.601
const DARKEST = 0.15 // least share of the color that shadows keep
const GLOSS = 0.5 // share of a highlight that goes to white
const OUTLIERS = 0.005 // share of pixels at each end for which no room is made
const LEVELS = 8 // steps of luma that are told apart, per gray level
const NUM_LEVELS = 255 * LEVELS + 1

const sum = (values) => values.reduce((total, value) => total + value, 0)
const clamp = (value, least, most) => Math.min(most, Math.max(least, value))

/**
 * Paint over a ground of the recolored photo wherever the mask is.
 *
 * @param {Uint8Array} strokes   RGBA, not premultiplied; opaque afterwards where the mask is
 * @param {Uint8Array} marked    one byte a pixel; at least one is not 0
 * @param {Uint8ClampedArray} photo   RGBA
 * @param {number[]} color       three bytes
 */
export function layRecoloredUnder(strokes, marked, photo, color) {
    const counts = new Float64Array(NUM_LEVELS)
    for (let at = 0; at < marked.length; at++) if (marked[at]) counts[lumaLevel(photo, 4 * at)]++
    const table = paintByLevel(counts, color)
    for (let at = 0; at < marked.length; at++) {
        if (!marked[at]) continue
        const pixel = 4 * at
        const alpha = strokes[pixel + 3] / 255
        const level = lumaLevel(photo, pixel)
        for (let channel = 0; channel < 3; channel++) {
            const ground = table[channel][level]
            strokes[pixel + channel] = Math.round(ground + (strokes[pixel + channel] - ground) * alpha)
        }
        strokes[pixel + 3] = 255
    }
}

function lumaLevel(photo, pixel) {
    const luma = LUMA[0] * photo[pixel] + LUMA[1] * photo[pixel + 1] + LUMA[2] * photo[pixel + 2]
    return Math.round(LEVELS * luma)
}

/** The paint of each level of luma, by channel, for a region's histogram. @returns {Uint8ClampedArray[]} */
function paintByLevel(counts, color) {
    const total = sum(counts)
    const shares = counts.map((count) => count / total)
    const mean = sum(shares.map((share, level) => (share * level) / LEVELS))
    const difference = shares.map((_, level) => level / LEVELS - mean)
    const isUsual = usualLevels(shares)
    const colorLuma = sum(color.map((value, channel) => LUMA[channel] * value))
    const toBlack = color.map((value) => value / Math.max(colorLuma, 1))
    const toWhite = color.map((value) => (255 - value) / Math.max(255 - colorLuma, 1))
    let highest = 0
    difference.forEach((value, level) => isUsual[level] && (highest = Math.max(highest, value)))
    const brighter = brighterShare(color, toBlack, toWhite, highest)
    return color.map((target, channel) => {
        const lighter = brighter * toBlack[channel] + (1 - brighter) * toWhite[channel]
        const paint = difference.map((value) => {
            const below = Math.max(Math.min(value, 0), (DARKEST - 1) * colorLuma)
            return target + below * toBlack[channel] + Math.max(value, 0) * lighter
        })
        const shift = meanShift(paint, shares, isUsual, target)
        return Uint8ClampedArray.from(paint, (value) => value + shift) // rounds and clips
    })
}

/** All levels but those at the ends that hardly a pixel has; all of them where none is left. */
function usualLevels(shares) {
    let [before, after] = [0, 1]
    const isUsual = Array.from(shares, (share) => {
        before += share
        const found = before > OUTLIERS && after > OUTLIERS
        after -= share
        return found
    })
    return isUsual.includes(true) ? isUsual : isUsual.fill(true)
}

/** What brings the mean back to the color asked for, as far as there is room. */
function meanShift(paint, shares, isUsual, target) {
    const inUse = paint.filter((_, level) => isUsual[level])
    const mean = sum(paint.map((value, level) => value * shares[level]))
    return clamp(target - mean, Math.min(-Math.min(...inUse), 0), Math.max(255 - Math.max(...inUse), 0))
}

/** How much of a highlight may brighten the color before a channel exceeds 255. */
function brighterShare(color, toBlack, toWhite, highest) {
    let share = 1 - GLOSS
    color.forEach((value, channel) => {
        const excess = toBlack[channel] - toWhite[channel]
        const room = (255 - value) / Math.max(highest, 1) - toWhite[channel]
        if (excess > 0) share = Math.min(share, room / excess)
    })
    return clamp(share, 0, 1 - GLOSS)
}
