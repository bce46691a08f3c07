/**
 * A document in IndexedDB: one record that names squares and images, and these beside it. They never change, so a save
 * writes only those that are new, and the record last, all in one transaction.
 */

import { createStore, delMany, get, getMany, keys, setMany } from "../vendor/idb_keyval.js"
import { EditorError } from "./errors.js"
import { Tile } from "./tiles.js"

const RECORD = "document"
const VERSION = 3
const LAYERS = ["paint", "mask", "restraint"]
/** Stands for an image in the interface's state; it is stored beside the record, and once. */
const BLOB = "storedBlob"
const LOCK = "neural-photo-editor"

let opened = null
const store = () => (opened ??= createStore("neural-photo-editor", "editor"))

const randomId = () => crypto.getRandomValues(new Uint32Array(3)).join("-")

/** One page after the other; browsers have locks only where pages come encrypted or from this machine. */
const alone = (work) => (navigator.locks ? navigator.locks.request(LOCK, work) : work())

function problem(error) {
    const isFull = error?.name === "QuotaExceededError"
    return new EditorError(isFull ? "storage-full" : "storage-unavailable", {}, error)
}

/**
 * @typedef {object} Stored
 * @property {{name: string, width: number, height: number}} photo
 * @property {import("./images.js").DocumentImage} upload
 * @property {import("./history.js").Step[]} steps
 * @property {number} position
 * @property {object|null} labels   as setLabels takes them
 * @property {import("./images.js").DocumentImage|null} labelsImage   that they are of
 * @property {object} settings      tool, brush, layers, ...
 * @property {unknown} extra        the interface's own
 */

/** Writes one document again and again. Several pages may do so: the last one's is what is kept. */
export class DocumentStorage {
    /** Starts this storage's new keys; those of a restored document are its writer's, who may be at work yet. */
    #id = randomId()
    /** The save that what is in `#saved` belongs to. @type {string|null} */
    #lastSave = null
    /** @type {WeakMap<object, string>} */
    #keys = new WeakMap()
    #count = 0
    #saved = new Set()
    #last = Promise.resolve()

    /**
     * One save after the other.
     *
     * @param {() => Stored} read   called when this save's turn has come
     * @returns {Promise<boolean>} whether another page has saved since this storage did, or was restored
     * @throws {EditorError}
     */
    save(read) {
        const saving = this.#last.then(() => alone(() => this.#save(read())))
        this.#last = saving.catch(() => {}) // its caller learns of it; the next save tries again
        return saving
    }

    async #save({ photo, upload, steps, position, labels, labelsImage, settings, extra }) {
        const needed = new Map()
        const keyOf = (object) => {
            if (!object) return null
            if (!this.#keys.has(object)) this.#keys.set(object, `${this.#id}/${this.#count++}`)
            needed.set(this.#keys.get(object), object)
            return this.#keys.get(object)
        }
        const record = {
            version: VERSION,
            save: randomId(),
            photo,
            upload: keyOf(upload),
            steps: steps.map((step) => writeStep(step, keyOf)),
            position,
            labels: keyOf(labels),
            labelsImage: keyOf(labelsImage),
            settings,
            extra: replaced(extra, (value) => (value instanceof Blob ? { [BLOB]: keyOf(value) } : null)),
            keys: null,
        }
        record.keys = [...needed.keys()]
        try {
            const stored = await get(RECORD, store())
            const isOthers = (stored?.save ?? null) !== this.#lastSave
            if (isOthers) this.#saved.clear() // and what it does not need is gone
            await this.#write(needed, record, isOthers)
            const isOvertaken = isOthers && stored !== undefined && this.#lastSave !== null
            this.#lastSave = record.save
            this.#saved = new Set(needed.keys())
            const unused = (await keys(store())).filter((key) => key !== RECORD && !needed.has(key))
            if (unused.length) await delMany(unused, store())
            return isOvertaken
        } catch (error) {
            throw problem(error)
        }
    }

    async #write(needed, record, isOthers) {
        const missing = [...needed].filter(([key]) => !this.#saved.has(key))
        await Tile.pack(missing.map(([, object]) => object).filter((object) => object instanceof Tile))
        const entries = missing.map(([key, object]) => [key, object instanceof Tile ? object.packed : object])
        entries.push([RECORD, record])
        try {
            await setMany(entries, store())
        } catch (error) {
            // There is no room beside the earlier work, which this is about to replace anyway.
            if (error?.name !== "QuotaExceededError" || !isOthers) throw error
            await forgetDocuments()
            await setMany(entries, store())
        }
    }

    /** What was saved last becomes this storage's own. @returns {Promise<Stored|null>} */
    async restore() {
        try {
            const record = await get(RECORD, store())
            if (record?.version !== VERSION) return null
            const names = record.keys
            const values = await getMany(names, store())
            if (values.includes(undefined)) return null
            const objects = new Map(names.map((name, at) => [name, revive(values[at])]))
            for (const [name, object] of objects) this.#keys.set(object, name)
            this.#lastSave = record.save
            this.#saved = new Set(names)
            const find = (name) => objects.get(name) ?? null
            return {
                ...record,
                upload: find(record.upload),
                labels: find(record.labels),
                labelsImage: find(record.labelsImage),
                steps: record.steps.map((step) => readStep(step, find)),
                extra: replaced(record.extra, (value) => (value?.[BLOB] ? find(value[BLOB]) : null)),
            }
        } catch (error) {
            throw problem(error)
        }
    }
}

/** Forget every saved document. */
export async function forgetDocuments() {
    try {
        await delMany(await keys(store()), store())
    } catch (error) {
        throw problem(error)
    }
}

const revive = (value) => (value instanceof Uint8Array ? new Tile(null, value) : value)

/**
 * A copy with other values in it.
 *
 * @param {unknown} value   of lists and plain objects, down to anything else
 * @param {(value: unknown) => unknown} change   null: as it is
 */
function replaced(value, change) {
    const changed = change(value)
    if (changed !== null) return changed
    if (Array.isArray(value)) return value.map((item) => replaced(item, change))
    if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replaced(item, change)]))
}

function writeStep({ label, work }, keyOf) {
    const layers = LAYERS.map((layer) => [layer, work[layer].map(keyOf)])
    return {
        label,
        work: { ...work, ...Object.fromEntries(layers), base: keyOf(work.base), result: keyOf(work.result) },
    }
}

function readStep({ label, work }, find) {
    const layers = LAYERS.map((layer) => [layer, work[layer].map(find)])
    return { label, work: { ...work, ...Object.fromEntries(layers), base: find(work.base), result: find(work.result) } }
}
