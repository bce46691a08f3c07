/** PNG files, to and from exact pixels: a canvas would round colors by their alpha, and lose those that are faint. */

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)
const COLOR_TYPE = { 1: 0, 4: 6 } // by channels: gray, RGBA

/** CRC of every byte; PNG (ISO/IEC 15948), annex D. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1
    return crc
})

/**
 * @param {Uint8Array} pixels   row by row, channels * width bytes each
 * @param {number} width
 * @param {number} height
 * @param {1|4} channels        gray or RGBA, not premultiplied
 * @returns {Promise<Blob>}
 */
export async function encodePng(pixels, width, height, channels) {
    const header = new DataView(new ArrayBuffer(13))
    header.setUint32(0, width)
    header.setUint32(4, height)
    header.setUint8(8, 8) // bits
    header.setUint8(9, COLOR_TYPE[channels])
    const parts = [
        SIGNATURE,
        chunk("IHDR", new Uint8Array(header.buffer)),
        chunk("IDAT", await deflated(pixels, width * channels, channels)),
        chunk("IEND", new Uint8Array(0)),
    ]
    return new Blob(parts, { type: "image/png" })
}

/** Rows, each after its filter's number: 1, differences to the left, small in flat paint and in photos alike. */
async function deflated(pixels, rowBytes, channels) {
    const rows = pixels.length / rowBytes
    const filtered = new Uint8Array(pixels.length + rows)
    for (let row = 0, to = 0, from = 0; row < rows; row++) {
        filtered[to++] = 1
        for (const end = from + rowBytes, first = from + channels; from < end; from++) {
            filtered[to++] = pixels[from] - (from < first ? 0 : pixels[from - channels])
        }
    }
    return compressed([filtered], "deflate")
}

/** @param {Uint8Array[]} parts @param {"deflate"|"deflate-raw"} format @returns {Promise<Uint8Array>} */
export async function compressed(parts, format) {
    const stream = new Blob(parts).stream().pipeThrough(new CompressionStream(format))
    return new Uint8Array(await new Response(stream).arrayBuffer())
}

/**
 * Pixels of a PNG as encodePng writes them: 8 bits, gray or RGBA, not interlaced.
 *
 * @param {Uint8Array} bytes
 * @returns {Promise<{width: number, height: number, channels: 1|4, pixels: Uint8Array}|null>}  null: another kind
 * @throws {Error} when it is damaged
 */
export async function decodePng(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (!SIGNATURE.every((byte, at) => bytes[at] === byte)) return null
    const [width, height] = [view.getUint32(16), view.getUint32(20)]
    const channels = { 0: 1, 6: 4 }[view.getUint8(25)]
    const isPlain = view.getUint8(24) === 8 && channels !== undefined && view.getUint8(28) === 0
    const data = []
    for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at)) {
        const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8))
        if (type === "tRNS") return null
        if (type === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)))
    }
    if (!isPlain) return null
    const filtered = await inflated(data, height * (width * channels + 1))
    return { width, height, channels, pixels: unfiltered(filtered, width * channels, height, channels) }
}

/** @param {Uint8Array[]} parts @param {number} size  in bytes; a file that unpacks to another is damaged */
async function inflated(parts, size) {
    const result = new Uint8Array(size)
    let at = 0
    const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader()
    for (;;) {
        const { done, value } = await reader.read()
        if (done) break
        result.set(value, at) // a RangeError where there is too much
        at += value.length
    }
    if (at !== size) throw new Error("the image ends too early")
    return result
}

/** Undo the filter of each row; PNG, section 9.2. */
function unfiltered(filtered, rowBytes, rows, channels) {
    const pixels = new Uint8Array(rowBytes * rows)
    for (let row = 0; row < rows; row++) {
        const filter = filtered[row * (rowBytes + 1)]
        const from = row * (rowBytes + 1) + 1
        const to = row * rowBytes
        for (let at = 0; at < rowBytes; at++) {
            const left = at < channels ? 0 : pixels[to + at - channels]
            const up = row === 0 ? 0 : pixels[to + at - rowBytes]
            const corner = row === 0 || at < channels ? 0 : pixels[to + at - rowBytes - channels]
            pixels[to + at] = filtered[from + at] + predicted(filter, left, up, corner)
        }
    }
    return pixels
}

function predicted(filter, left, up, corner) {
    if (filter === 0) return 0
    if (filter === 1) return left
    if (filter === 2) return up
    if (filter === 3) return (left + up) >> 1
    const toLeft = Math.abs(up - corner)
    const toUp = Math.abs(left - corner)
    const toCorner = Math.abs(left + up - 2 * corner)
    return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner
}

function chunk(type, data) {
    const bytes = new Uint8Array(data.length + 12)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, data.length)
    for (let at = 0; at < 4; at++) bytes[4 + at] = type.charCodeAt(at)
    bytes.set(data, 8)
    view.setUint32(8 + data.length, crc(bytes.subarray(4, 8 + data.length)))
    return bytes
}

function crc(bytes) {
    let value = 0xffffffff
    for (let at = 0; at < bytes.length; at++) value = CRC_TABLE[(value ^ bytes[at]) & 255] ^ (value >>> 8)
    return (value ^ 0xffffffff) >>> 0
}
