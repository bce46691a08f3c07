/**
 * Edits kept as files: what `npe replay` reads and writes, too (docs/client.md).
 *
 * A recipe comes from anywhere, so every field is checked before anything is done with it, and what is
 * wrong is told by field and code. Its strings are only ever shown as text.
 */

import { base64FromBlob, bytesFromBase64 } from "./base64.js"
import { CHOICES, MAX, MAX_READ_SEED, REGIONS, evaluations } from "./fields.js"

const SCHEMA_VERSION = 1
const MAX_BYTES = 44 * 2 ** 20
const FILES = ["photo", "mask", "strokes", "strength_map"]
const NUMBERS = {
    strength: { min: 0, max: 1, whole: false },
    timestep: { min: 1, max: MAX.timestep, whole: true },
    steps: { min: 1, max: MAX.steps, whole: true },
    resamples: { min: 1, max: MAX.resamples, whole: true },
    seed: { min: 0, max: MAX_READ_SEED, whole: true },
    variations: { min: 1, max: MAX.variations, whole: true },
}
/** Fields that say how an answer comes; the page asks for its own way. */
const UNUSED = {
    operation: ["edit"], response: ["image", "json"], format: ["png", "jpeg", "webp"], receipt: [true, false],
}
const SIGNATURES = {
    "image/jpeg": [0xff, 0xd8, 0xff],
    "image/png": [0x89, 0x50, 0x4e, 0x47],
    "image/webp": [0x52, 0x49, 0x46, 0x46],
}

/**
 * A recipe that cannot be used.
 *
 * code: "too-large" {limit}, "not-json", "not-an-object", "missing", "unknown", "version" {found},
 * "text" {limit}, "number" {min, max, whole}, "choice" {choices}, "color", "regions", "image",
 * "conflict" {other}, "nothing-marked", "too-much-work" {limit}.
 */
export class RecipeError extends Error {
    /** @param {string} code @param {string|null} field @param {object} [details] */
    constructor(code, field = null, details = {}) {
        super(field ? `${field}: ${code}` : code)
        this.name = "RecipeError"
        this.code = code
        this.field = field
        this.details = details
    }
}

/**
 * Write an edit as a recipe's file.
 *
 * @param {import("./fields.js").EditRequest} request   with its seed
 * @param {string} name
 * @returns {Promise<Blob>}
 */
export async function writeRecipe(request, name) {
    const { regions, parameters } = request
    const fields = {}
    if (regions.length && !request.mask) fields.regions = regions
    for (const [key, value] of Object.entries(parameters)) {
        const isDefault = key === "variations" && value === 1
        if (value !== null && !isDefault) fields[key] = value
    }
    // More than one variation needs it; the reader in Python checks that.
    if (parameters.variations > 1) fields.response = "json"
    const files = [request.photo, request.mask, request.strokes, request.strengthMap]
    for (const [index, blob] of files.entries()) {
        if (blob) fields[FILES[index]] = await base64FromBlob(blob)
    }
    const line = name.replace(/[\x00-\x1f\x7f]/g, " ").trim().slice(0, 100) || "edit"
    const document = { schema_version: SCHEMA_VERSION, name: line, notes: "", request: fields }
    return new Blob([JSON.stringify(document, null, 1), "\n"], { type: "application/json" })
}

/**
 * Read a recipe's file.
 *
 * @param {Blob} file
 * @returns {Promise<{name: string, request: import("./fields.js").EditRequest}>}
 * @throws {RecipeError}
 */
export async function readRecipe(file) {
    if (file.size > MAX_BYTES) throw new RecipeError("too-large", null, { limit: MAX_BYTES })
    let document
    try {
        document = JSON.parse(await file.text())
    } catch {
        throw new RecipeError("not-json")
    }
    if (!isObject(document)) throw new RecipeError("not-an-object")
    refuseUnknown(document, ["schema_version", "name", "notes", "request"])
    const version = document.schema_version
    if (version !== SCHEMA_VERSION) {
        throw new RecipeError("version", "schema_version", { found: String(version).slice(0, 20) })
    }
    const name = readText(document, "name", 100)
    if ("notes" in document) readText(document, "notes", 4000)
    if (!isObject(document.request)) throw new RecipeError("missing", "request")
    return { name, request: readRequest(document.request) }
}

/** @param {Record<string, unknown>} fields */
function readRequest(fields) {
    const choices = { ...CHOICES, ...UNUSED }
    refuseUnknown(fields, [...FILES, ...Object.keys(NUMBERS), ...Object.keys(choices), "color", "regions"])
    for (const name of Object.keys(choices)) checkChoice(fields, name, choices[name])
    const images = FILES.map((name) => readImage(fields, name))
    if (images[0] === null) throw new RecipeError("missing", "photo")
    const parameters = { color: readColor(fields) }
    for (const name of Object.keys(NUMBERS)) parameters[name] = readNumber(fields, name)
    for (const name of Object.keys(CHOICES)) parameters[name] = fields[name] ?? null
    parameters.variations ??= 1
    if (parameters.seed === null) throw new RecipeError("missing", "seed")
    const [photo, mask, strokes, strengthMap] = images
    const regions = readRegions(fields)
    checkCombination({ mask, strokes, regions, parameters })
    return { photo, mask, regions, strokes, strengthMap, parameters }
}

function checkCombination({ mask, strokes, regions, parameters }) {
    const conflict = (field, other) => new RecipeError("conflict", field, { other })
    if (mask && regions.length) throw conflict("mask", "regions")
    if (strokes && parameters.color !== null) throw conflict("strokes", "color")
    const byStrength = parameters.strength !== null
    if (byStrength && parameters.timestep !== null) throw conflict("strength", "timestep")
    if (!mask && !strokes && !regions.length) throw new RecipeError("nothing-marked", "mask")
    if (evaluations(parameters) > MAX.evaluations) {
        throw new RecipeError("too-much-work", "steps", { limit: MAX.evaluations })
    }
}

function isObject(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value)
}

function refuseUnknown(fields, known) {
    const unknown = Object.keys(fields).find((name) => !known.includes(name))
    if (unknown !== undefined) throw new RecipeError("unknown", unknown.slice(0, 40))
}

function readText(fields, name, limit) {
    const value = fields[name]
    if (value === undefined) throw new RecipeError("missing", name)
    if (typeof value !== "string" || value.length > limit) {
        throw new RecipeError("text", name, { limit })
    }
    return value
}

function readNumber(fields, name) {
    const value = fields[name] ?? null
    if (value === null) return null
    const { min, max, whole } = NUMBERS[name]
    const good = typeof value === "number" && value >= min && value <= max
    if (!good || (whole && !Number.isInteger(value))) {
        throw new RecipeError("number", name, { min, max, whole })
    }
    return value
}

function checkChoice(fields, name, choices) {
    const value = fields[name] ?? null
    if (value !== null && !choices.includes(value)) throw new RecipeError("choice", name, { choices })
}

function readColor(fields) {
    const value = fields.color ?? null
    if (value === null || (typeof value === "string" && /^#[0-9a-f]{6}$/i.test(value))) return value
    throw new RecipeError("color", "color")
}

function readRegions(fields) {
    const value = fields.regions ?? []
    if (Array.isArray(value) && value.every((name) => REGIONS.includes(name))) {
        return [...new Set(value)]
    }
    throw new RecipeError("regions", "regions")
}

/** Decode an image field up to its signature; pixels are decoded, within limits, by the engine. */
function readImage(fields, name) {
    const value = fields[name] ?? null
    if (value === null) return null
    if (typeof value !== "string") throw new RecipeError("image", name)
    let bytes
    try {
        bytes = bytesFromBase64(value)
    } catch {
        throw new RecipeError("image", name)
    }
    const entry = Object.entries(SIGNATURES).find(([, start]) =>
        start.every((byte, index) => bytes[index] === byte),
    )
    if (!entry) throw new RecipeError("image", name)
    return new Blob([bytes], { type: entry[0] })
}
