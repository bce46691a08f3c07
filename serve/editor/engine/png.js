/** PNG files of exact pixels: a canvas would round colors by their alpha, and lose those that are faint. */

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
        chunk("IDAT", await deflated(pixels, width * channels)),
        chunk("IEND", new Uint8Array(0)),
    ]
    return new Blob(parts, { type: "image/png" })
}

/** Rows, each after its filter's number: none, for layers are mostly of one value. */
async function deflated(pixels, rowBytes) {
    const rows = pixels.length / rowBytes
    const filtered = new Uint8Array(pixels.length + rows)
    for (let row = 0; row < rows; row++) {
        filtered.set(pixels.subarray(row * rowBytes, (row + 1) * rowBytes), row * (rowBytes + 1) + 1)
    }
    const stream = new Blob([filtered]).stream().pipeThrough(new CompressionStream("deflate"))
    return new Uint8Array(await new Response(stream).arrayBuffer())
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
