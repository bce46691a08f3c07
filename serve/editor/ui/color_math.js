/** Between "#rrggbb" and hue (0..360), saturation and brightness (0..1). */

/** @param {string} hex @returns {{hue: number, saturation: number, brightness: number}} */
export function fromHex(hex) {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
    const brightness = Math.max(r, g, b)
    const range = brightness - Math.min(r, g, b)
    let hue = 0
    if (range > 0) {
        if (brightness === r) hue = ((g - b) / range + 6) % 6
        else if (brightness === g) hue = (b - r) / range + 2
        else hue = (r - g) / range + 4
    }
    return { hue: hue * 60, saturation: brightness ? range / brightness : 0, brightness }
}

/** The inverse of fromHex. @returns {string} */
export function toHex({ hue, saturation, brightness }) {
    const channel = (offset) => {
        const k = (offset + hue / 60) % 6
        const value = brightness * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1)))
        return Math.round(value * 255).toString(16).padStart(2, "0")
    }
    return `#${channel(5)}${channel(3)}${channel(1)}`
}
