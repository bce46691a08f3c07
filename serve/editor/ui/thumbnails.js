/** Small pictures of results, of the part that an edit worked on: in a large photo it would be lost otherwise. */

const SIDE = 240 // pixels

/**
 * @param {Blob} blob   an image
 * @param {number[]|null|undefined} crop   left, top, right, bottom; may reach beyond the image
 * @returns {Promise<string>} the address of a JPEG, to be revoked
 */
export async function thumbnailUrl(blob, crop) {
    const image = await createImageBitmap(blob)
    const { width, height } = image
    const [left, top, right, bottom] = crop ?? [0, 0, width, height]
    const side = Math.min(Math.max(right - left, bottom - top), width, height)
    const x = clamp((left + right - side) / 2, width - side)
    const y = clamp((top + bottom - side) / 2, height - side)
    const canvas = new OffscreenCanvas(SIDE, SIDE)
    const context = canvas.getContext("2d")
    context.imageSmoothingQuality = "high"
    context.drawImage(image, x, y, side, side, 0, 0, SIDE, SIDE)
    image.close()
    return URL.createObjectURL(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 }))
}

/** Let go of the pictures of results. @param {{url: string}[]} items */
export function revokeThumbnails(items) {
    for (const { url } of items) if (url) URL.revokeObjectURL(url)
}

function clamp(value, most) {
    return Math.min(most, Math.max(0, value))
}
