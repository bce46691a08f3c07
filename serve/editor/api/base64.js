/** Bytes as text and back. */

/**
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {SyntaxError|DOMException} not base64
 */
export function bytesFromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text)
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
export function base64FromBlob(blob) {
    return new Promise((resolve, reject) => {
        const reader = new FileReader()
        // data:TYPE;base64,TEXT
        reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1))
        reader.onerror = () => reject(reader.error)
        reader.readAsDataURL(blob)
    })
}
