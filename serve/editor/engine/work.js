/**
 * Steps from one state of the work to the next (see Work in history.js), and what a state sends. Pure: states are
 * never changed.
 */

import { colorBytes } from "./color.js"
import { EditorError } from "./errors.js"
import { TILE } from "./grid.js"
import { readImageHeader } from "./image_header.js"
import { decodeSquares, encodeLayers } from "./pixel_jobs.js"
import { buildLayer, isEmpty, tileOf } from "./tiles.js"

/** @typedef {import("./history.js").Work} Work */

const noMarks = (grid) => ({ mask: grid.empty(), regions: [], maskIsRegions: false, maskColor: null })
const noPaint = (grid) => ({ paint: grid.empty(), restraint: grid.empty() })

/** @param {import("./grid.js").Grid} grid @param {import("./images.js").DocumentImage} base @returns {Work} */
export function emptyWork(grid, base) {
    return { ...noPaint(grid), ...noMarks(grid), base, result: null }
}

/** @param {Work} work @param {import("./grid.js").Grid} grid @returns {Work} */
export const withoutMarks = (work, grid) => ({ ...work, ...noMarks(grid) })

/** @param {Work} work @param {import("./grid.js").Grid} grid @returns {Work} */
export const withoutPaint = (work, grid) => ({ ...work, ...noPaint(grid) })

/** The mask is exactly these regions. @param {Work} work @param {import("./labels.js").Labels} labels @param {string[]} names @returns {Work} */
export function withRegions(work, labels, names) {
    const regions = labels.names.filter((name) => names.includes(name))
    const mask = labels.changeMask(labels.grid.empty(), regions)
    return { ...work, mask, regions, maskIsRegions: regions.length > 0 && labels.image === work.base }
}

/** A region joins the mask, or leaves it. @param {Work} work @param {import("./labels.js").Labels} labels @param {string} name @returns {Work} */
export function withRegionToggled(work, labels, name) {
    const isOut = work.regions.includes(name)
    const regions = isOut ? work.regions.filter((other) => other !== name) : [...work.regions, name]
    const mask = labels.changeMask(work.mask, isOut ? [] : [name], isOut ? [name] : [])
    const wereRegions = work.maskIsRegions || isEmpty(work.mask)
    const maskIsRegions = wereRegions && regions.length > 0 && labels.image === work.base
    return { ...work, mask, regions, maskIsRegions }
}

/**
 * The mask from a function of its own pixels.
 *
 * @param {Work} work
 * @param {import("./grid.js").Grid} grid
 * @param {(before: number) => number} change
 * @returns {Work}
 */
export function withMaskOf(work, grid, change) {
    const mask = buildLayer(grid, (data, index, { x0, y0, x1, y1 }) => {
        const before = work.mask[index]?.data
        for (let y = 0; y < y1 - y0; y++) {
            for (let at = y * TILE; at < y * TILE + x1 - x0; at++) data[at] = change(before ? before[at] : 0)
        }
    })
    return { ...work, mask, regions: [], maskIsRegions: false }
}

/** @param {Work} work @returns {boolean} whether a result can be built on: its other pixels are the upload's */
export const isExact = (work) => work.result !== null && work.result.metadata?.exact !== false

/** The result becomes the base, and what led to it is done. @param {Work} work @param {import("./grid.js").Grid} grid @returns {Work} */
export const onResult = (work, grid) => emptyWork(grid, work.result)

/**
 * What an edit request needs of the layers; see Edit in document.js.
 *
 * @param {Work} work
 * @param {import("./grid.js").Grid} grid
 */
export async function exportLayers(work, grid) {
    const hasPaint = !isEmpty(work.paint)
    const hasMask = !isEmpty(work.mask)
    const isRegions = work.maskIsRegions && !hasPaint
    const layers = await encodeLayers({
        width: grid.width,
        height: grid.height,
        paint: squares(work.paint),
        mask: squares(work.mask),
        restraint: squares(work.restraint),
        // A request has strokes or a color; with both, what the color makes of the photo lies under the strokes.
        ground: hasPaint && hasMask && work.maskColor ? { photo: work.base.blob, color: colorBytes(work.maskColor) } : null,
        wanted: { strokes: hasPaint, mask: hasMask && !isRegions, strengthMap: !isEmpty(work.restraint) },
    })
    return {
        ...layers,
        regions: isRegions ? work.regions : [],
        color: hasMask && !hasPaint ? work.maskColor : null,
        empty: !hasMask && !hasPaint,
    }
}

const squares = (tiles) => tiles.flatMap((tile, index) => (tile ? [[index, tile.data]] : []))

/**
 * The layers of an edit as `exportLayers` gave it away, without its regions.
 *
 * @param {{mask: Blob|null, strokes: Blob|null, color: string|null, strengthMap: Blob|null}} edit
 * @param {import("./grid.js").Grid} grid
 * @returns {Promise<Partial<Work>>}
 * @throws {EditorError} "broken-image", "wrong-size", "not-an-image", "unsupported-type"
 */
export async function importLayers({ mask, strokes, color, strengthMap }, grid) {
    const layers = { ...noPaint(grid), ...noMarks(grid), maskColor: color }
    if (strokes) layers.paint = await readLayer(strokes, "paint", grid)
    if (strengthMap) layers.restraint = await readLayer(strengthMap, "restraint", grid)
    if (mask) layers.mask = await readLayer(mask, "mask", grid)
    return layers
}

async function readLayer(blob, layer, grid) {
    const { width, height } = readImageHeader(new Uint8Array(await blob.arrayBuffer()))
    if (width !== grid.width || height !== grid.height) {
        throw new EditorError("wrong-size", { width, height, expected: { width: grid.width, height: grid.height } })
    }
    const { squares } = await decodeSquares(blob, layer)
    return squares.map(tileOf)
}
