/**
 * The fields of an edit request (docs/client.md), and what each may hold.
 *
 * @typedef {object} EditRequest   what one edit was asked for: enough to make it again
 * @property {Blob} photo
 * @property {Blob|null} mask
 * @property {string[]} regions
 * @property {Blob|null} strokes
 * @property {Blob|null} strengthMap
 * @property {EditParameters} parameters
 *
 * @typedef {object} EditParameters   null: the server chooses
 * @property {string|null} color      "#rrggbb"
 * @property {number|null} strength   0..1; null with a timestep
 * @property {number|null} timestep
 * @property {number|null} steps
 * @property {number|null} resamples
 * @property {string|null} sampler
 * @property {string|null} detail
 * @property {string|null} blend
 * @property {number|null} seed
 * @property {number} variations
 */

/** As in src/neural_photo_editor/api/schema.py; the server has the last word. */
export const CHOICES = {
    sampler: ["dpmpp_2m", "ddim", "ddpm"],
    detail: ["photo", "mixed", "model"],
    blend: ["feather", "gradient"],
}
export const REGIONS = [
    "background", "hair", "hat", "brow", "ear", "eye", "lip", "mouth", "neck", "nose", "skin",
]
export const MAX = {
    steps: 1000, resamples: 20, variations: 8, evaluations: 1000, timestep: 100000, seed: 2 ** 32 - 1,
}

/** The seeds of variations follow each other; all must be numbers that JavaScript holds exactly. */
export const MAX_READ_SEED = Number.MAX_SAFE_INTEGER - MAX.variations

/** @returns {number} a seed to start from */
export function randomSeed() {
    return crypto.getRandomValues(new Uint32Array(1))[0]
}

/**
 * Write a request as a form.
 *
 * @param {EditRequest} request
 * @param {{format?: "png"|"jpeg"|"webp", receipt?: boolean}} [extra]
 * @returns {FormData}
 */
export function editForm(request, { format, receipt = false } = {}) {
    const form = new FormData()
    // The file's name tells the server nothing, and is nobody's business.
    form.append("photo", request.photo, "photo")
    if (request.mask) form.append("mask", request.mask, "mask.png")
    else if (request.regions.length) form.append("regions", request.regions.join(","))
    if (request.strokes) form.append("strokes", request.strokes, "strokes.png")
    if (request.strengthMap) form.append("strength_map", request.strengthMap, "strength_map.png")
    for (const [name, value] of Object.entries(request.parameters)) {
        if (value !== null) form.append(name, String(value))
    }
    if (format) form.append("format", format)
    if (receipt) form.append("receipt", "true")
    form.append("response", "json")
    return form
}

/**
 * Count network calls as the server does: an edit may take MAX.evaluations of them in all.
 *
 * @param {EditParameters} parameters
 */
export function evaluations({ steps, resamples, variations }) {
    return (steps ?? 1) * (resamples ?? 1) * variations
}
