/** What a JPEG, PNG or WebP file says about itself, read before anything is decoded. */

import { EditorError } from "./errors.js"

const ascii = (bytes, start, length) => String.fromCharCode(...bytes.subarray(start, start + length))

/**
 * Type by the first bytes; a name or a media type from outside proves nothing.
 *
 * @param {Uint8Array} bytes  the file
 * @returns {{type: string, width: number, height: number}}  size as stored: EXIF may yet turn it
 * @throws {EditorError} "not-an-image", "unsupported-type", "broken-image"
 */
export function readImageHeader(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    try {
        if (bytes[0] === 0xff && bytes[1] === 0xd8) return { type: "image/jpeg", ...jpegSize(view) }
        if (ascii(bytes, 0, 8) === "\x89PNG\r\n\x1a\n") {
            return { type: "image/png", width: view.getUint32(16), height: view.getUint32(20) }
        }
        if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 4) === "WEBP") {
            return { type: "image/webp", ...webpSize(view, ascii(bytes, 12, 4)) }
        }
    } catch (error) {
        if (error instanceof RangeError) throw new EditorError("broken-image", {}, error) // it ends too early
        throw error
    }
    const found = knownType(bytes)
    throw found ? new EditorError("unsupported-type", { found }) : new EditorError("not-an-image")
}

/** Image types people bring that the server does not take. */
function knownType(bytes) {
    if (ascii(bytes, 0, 3) === "GIF") return "GIF"
    if (ascii(bytes, 0, 2) === "BM") return "BMP"
    if (["II*\0", "MM\0*"].includes(ascii(bytes, 0, 4))) return "TIFF"
    if (ascii(bytes, 4, 4) !== "ftyp") return null
    const brand = ascii(bytes, 8, 4)
    if (brand.startsWith("avi")) return "AVIF"
    return /^(he|mif|msf)/.test(brand) ? "HEIC" : null
}

/** Walk the segments up to the frame header; ITU T.81, B.2.2. */
function jpegSize(view) {
    let at = 2
    for (;;) {
        while (view.getUint8(at) !== 0xff) at += 1
        while (view.getUint8(at) === 0xff) at += 1
        const marker = view.getUint8(at)
        const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)
        if (isFrame) return { height: view.getUint16(at + 4), width: view.getUint16(at + 6) }
        at += 1 + view.getUint16(at + 1)
    }
}

/** RFC 9649, sections 2.5 to 2.7: a lossy, a lossless or an extended file. */
function webpSize(view, chunk) {
    const uint24 = (at) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16)
    if (chunk === "VP8 ") {
        return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff }
    }
    if (chunk === "VP8L") {
        const bits = view.getUint32(21, true)
        return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 }
    }
    if (chunk === "VP8X") return { width: uint24(24) + 1, height: uint24(27) + 1 }
    throw new EditorError("broken-image")
}

const ORIENTATION = 0x0112

/**
 * How a WebP file's EXIF says that it is to be turned: browsers turn JPEG and PNG, but not this.
 *
 * @param {Uint8Array} bytes  the file
 * @returns {number}  1 (as it is) to 8, as EXIF numbers them; 1 where nothing is said, or nothing that makes sense
 */
export function webpOrientation(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    try {
        for (let at = 12; at < bytes.length; ) {
            const size = view.getUint32(at + 4, true)
            if (ascii(bytes, at, 4) === "EXIF") return tiffOrientation(bytes.subarray(at + 8, at + 8 + size))
            at += 8 + size + (size % 2) // chunks start at even places
        }
    } catch (error) {
        if (!(error instanceof RangeError)) throw error // it ends too early, and says nothing
    }
    return 1
}

/** Of the first directory; TIFF 6.0, section 2. */
function tiffOrientation(exif) {
    const start = ascii(exif, 0, 4) === "Exif" ? 6 : 0 // as in JPEG; some writers keep it
    const view = new DataView(exif.buffer, exif.byteOffset + start, exif.byteLength - start)
    const isLittle = view.getUint8(0) === 0x49
    const directory = view.getUint32(4, isLittle)
    for (let entry = 0; entry < view.getUint16(directory, isLittle); entry++) {
        const at = directory + 2 + 12 * entry
        if (view.getUint16(at, isLittle) !== ORIENTATION) continue
        const value = view.getUint16(at + 8, isLittle)
        return value >= 1 && value <= 8 ? value : 1
    }
    return 1
}
