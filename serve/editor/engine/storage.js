/**
 * A document in IndexedDB: one record that names squares and images, and these beside it. They never change, so a save
 * writes only those that are new, and the record last, all in one transaction.
 */

import { createStore, delMany, get, getMany, keys, setMany } from "../vendor/idb_keyval.js"
import { EditorError } from "./errors.js"
import { Tile } from "./tiles.js"

const RECORD = "document"
const VERSION = 1
const LAYERS = ["paint", "mask", "restraint"]

let opened = null
const store = () => (opened ??= createStore("neural-photo-editor", "editor"))

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
 * @property {object} settings      tool, brush, layers, ...
 * @property {unknown} extra        the interface's own
 */

/** Writes one document again and again. */
export class DocumentStorage {
    #id = crypto.getRandomValues(new Uint32Array(3)).join("-")
    /** @type {WeakMap<object, string>} */
    #keys = new WeakMap()
    #count = 0
    #saved = new Set()
    #last = Promise.resolve()

    /**
     * One save after the other.
     *
     * @param {() => Stored} read   called when this save's turn has come
     * @throws {EditorError}
     */
    save(read) {
        const saving = this.#last.then(() => this.#save(read()))
        this.#last = saving.catch(() => {}) // its caller learns of it; the next save tries again
        return saving
    }

    async #save({ photo, upload, steps, position, labels, settings, extra }) {
        const needed = new Map()
        const keyOf = (object) => {
            if (!object) return null
            if (!this.#keys.has(object)) this.#keys.set(object, `${this.#id}/${this.#count++}`)
            needed.set(this.#keys.get(object), object)
            return this.#keys.get(object)
        }
        const record = {
            version: VERSION,
            id: this.#id,
            photo,
            upload: keyOf(upload),
            steps: steps.map((step) => writeStep(step, keyOf)),
            position,
            labels: keyOf(labels),
            settings,
            extra,
        }
        try {
            const stored = await get(RECORD, store())
            if (stored?.id !== this.#id) this.#saved.clear() // another page has saved its own meanwhile
            const missing = [...needed].filter(([key]) => !this.#saved.has(key))
            await Tile.pack(missing.map(([, object]) => object).filter((object) => object instanceof Tile))
            const entries = missing.map(([key, object]) => [key, object instanceof Tile ? object.packed : object])
            await setMany([...entries, [RECORD, record]], store())
            this.#saved = new Set(needed.keys())
            const unused = (await keys(store())).filter((key) => key !== RECORD && !needed.has(key))
            if (unused.length) await delMany(unused, store())
        } catch (error) {
            throw problem(error)
        }
    }

    /** What was saved last becomes this storage's own. @returns {Promise<Stored|null>} */
    async restore() {
        try {
            const record = await get(RECORD, store())
            if (record?.version !== VERSION) return null
            const names = [...new Set(keysIn(record))]
            const values = await getMany(names, store())
            if (values.includes(undefined)) return null
            const objects = new Map(names.map((name, at) => [name, revive(values[at])]))
            for (const [name, object] of objects) this.#keys.set(object, name)
            this.#id = record.id
            this.#count = 1 + Math.max(...names.map((name) => Number(name.split("/")[1])))
            this.#saved = new Set(names)
            const find = (name) => objects.get(name) ?? null
            return {
                ...record,
                upload: find(record.upload),
                labels: find(record.labels),
                steps: record.steps.map((step) => readStep(step, find)),
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

function keysIn({ upload, labels, steps }) {
    const found = [upload, labels]
    for (const { work } of steps) found.push(work.base, work.result, ...LAYERS.flatMap((layer) => work[layer]))
    return found.filter((key) => key !== null)
}
