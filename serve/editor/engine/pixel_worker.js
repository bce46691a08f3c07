/** Decodes and encodes whole images beside the page's own thread. */

import { packed } from "./packing.js"
import { decodePng, encodePng } from "./png.js"
import { Grid, TILE } from "./grid.js"
import { webpOrientation } from "./image_header.js"
import { layRecoloredUnder } from "./recoloring.js"

/** A level smaller than this is not worth having. */
const SMALLEST_LEVEL = 256

async function decodeUpright(blob) {
    const isWebp = blob.type === "image/webp"
    const orientation = isWebp ? webpOrientation(new Uint8Array(await blob.arrayBuffer())) : 1
    if (orientation === 1) return createImageBitmap(blob, { imageOrientation: "from-image" })
    return turned(await createImageBitmap(blob, { imageOrientation: "none" }), orientation)
}

/** Canvas transforms by EXIF's orientation, for an image of w x h as it is stored. */
const TURNS = {
    2: (w) => [-1, 0, 0, 1, w, 0],
    3: (w, h) => [-1, 0, 0, -1, w, h],
    4: (w, h) => [1, 0, 0, -1, 0, h],
    5: () => [0, 1, 1, 0, 0, 0],
    6: (w, h) => [0, 1, -1, 0, h, 0],
    7: (w, h) => [0, -1, -1, 0, h, w],
    8: (w) => [0, -1, 1, 0, 0, w],
}

/** The bitmap is closed. */
function turned(bitmap, orientation) {
    const { width, height } = bitmap
    const isLying = orientation >= 5
    const canvas = new OffscreenCanvas(isLying ? height : width, isLying ? width : height)
    const context = canvas.getContext("2d")
    context.setTransform(...TURNS[orientation](width, height))
    context.drawImage(bitmap, 0, 0)
    bitmap.close()
    return canvas.transferToImageBitmap()
}

async function decodeLevels({ blob }) {
    const levels = [await decodeUpright(blob)]
    for (let last = levels[0]; Math.max(last.width, last.height) > SMALLEST_LEVEL; last = levels.at(-1)) {
        const resizeWidth = Math.max(1, Math.round(last.width / 2))
        const resizeHeight = Math.max(1, Math.round(last.height / 2))
        levels.push(await createImageBitmap(last, { resizeWidth, resizeHeight, resizeQuality: "medium" }))
    }
    return { value: levels, transfer: levels }
}

/** Pixels as the file has them; those of other kinds of PNG by way of a canvas. */
async function decodePixels(blob) {
    const exact = await decodePng(new Uint8Array(await blob.arrayBuffer()))
    if (exact) return exact
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
    return { width: bitmap.width, height: bitmap.height, channels: 4, pixels: pixelsOf(bitmap) }
}

/** RGBA; the bitmap is closed. */
function pixelsOf(bitmap) {
    const { width, height } = bitmap
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })
    context.drawImage(bitmap, 0, 0)
    bitmap.close()
    return context.getImageData(0, 0, width, height).data
}

async function decodeLabels({ blob }) {
    const { width, height, channels, pixels } = await decodePixels(blob)
    const ids = new Uint8Array(width * height)
    for (let at = 0; at < ids.length; at++) ids[at] = pixels[channels * at]
    return { value: { width, height, ids }, transfer: [ids.buffer] }
}

/** Squares of a layer from its image: paint as it is, a mask of 0 and 255, restraint from strength. */
async function decodeSquares({ blob, layer }) {
    const { width, height, channels, pixels } = await decodePixels(blob)
    if (layer === "paint" && channels !== 4) throw new Error("strokes have an alpha channel")
    const grid = new Grid(width, height)
    const squares = grid.empty().map((_, index) => {
        const square = new Uint8Array(TILE * TILE * (layer === "paint" ? 4 : 1))
        const { x0, y0, x1, y1 } = grid.rect(index)
        for (let y = y0; y < y1; y++) {
            const row = pixels.subarray(channels * (y * width + x0), channels * (y * width + x1))
            const to = (y - y0) * TILE
            if (layer === "paint") square.set(row, 4 * to)
            else for (let x = 0; x < x1 - x0; x++) square[to + x] = fromGray[layer](row[channels * x])
        }
        return square
    })
    return { value: { width, height, squares }, transfer: squares.map((square) => square.buffer) }
}

const fromGray = { mask: (gray) => (gray > 127 ? 255 : 0), restraint: (gray) => 255 - gray }

async function encodeLayers({ width, height, paint, mask, restraint, ground, wanted }) {
    const grid = new Grid(width, height)
    const strokes = assemble(grid, paint, 4)
    const marked = assemble(grid, mask, 1)
    if (ground) layRecoloredUnder(strokes, marked, pixelsOf(await decodeUpright(ground.photo)), ground.color)
    const value = { mask: null, strokes: null, strengthMap: null }
    if (wanted.strokes) value.strokes = await encodePng(strokes, width, height, 4)
    if (wanted.mask) {
        for (let at = 0; at < marked.length; at++) if (strokes[4 * at + 3]) marked[at] = 255
        value.mask = await encodePng(marked, width, height, 1)
    }
    if (wanted.strengthMap) {
        const strength = assemble(grid, restraint, 1).map((value) => 255 - value)
        value.strengthMap = await encodePng(strength, width, height, 1)
    }
    return { value, transfer: [] }
}

/** Squares as one image. */
function assemble(grid, squares, channels) {
    const image = new Uint8Array(grid.width * grid.height * channels)
    for (const [index, data] of squares) {
        const { x0, y0, x1, y1 } = grid.rect(index)
        for (let y = y0; y < y1; y++) {
            const from = (y - y0) * TILE * channels
            image.set(data.subarray(from, from + (x1 - x0) * channels), (y * grid.width + x0) * channels)
        }
    }
    return image
}

async function packSquares({ squares }) {
    const value = []
    for (const square of squares) value.push(await packed(square))
    return { value, transfer: value.map((bytes) => bytes.buffer) }
}

const JOBS = { decodeLevels, decodeLabels, decodeSquares, encodeLayers, packSquares }

self.onmessage = async ({ data: { id, job, input } }) => {
    try {
        const { value, transfer } = await JOBS[job](input)
        self.postMessage({ id, value }, transfer)
    } catch (error) {
        self.postMessage({ id, code: job.startsWith("decode") ? "broken-image" : "engine-failed", reason: `${error}` })
    }
}
