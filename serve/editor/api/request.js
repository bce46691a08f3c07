/**
 * One request to the gateway.
 *
 * XMLHttpRequest, not fetch: it alone tells how much of a body has been uploaded, and it hands out the
 * text of an event stream while that arrives.
 */

import { storedKey } from "./key.js"
import { Problem, readProblem } from "./problem.js"

/** The page is at .../editor/, the API beside it, also behind a proxy that adds a path. */
const API = new URL("../v1/", document.baseURI)

/**
 * @typedef {object} Answer
 * @property {Blob|string} body
 * @property {string} requestId
 * @property {string} metadata   the header X-NPE-Metadata, JSON, or ""
 */

/**
 * Send a request; resolves with its answer.
 *
 * @param {string} operation   "edit", "segment", "upscale" or "info"
 * @param {object} [options]
 * @param {FormData} [options.form]   makes it a POST
 * @param {"blob"|"text"} [options.answer]
 * @param {string} [options.accept]
 * @param {AbortSignal} [options.signal]   aborting closes the connection, and the server stops its work
 * @param {(sent: number, total: number) => void} [options.onUpload]
 * @param {(text: string) => void} [options.onText]   gets the answer's text piece by piece
 * @returns {Promise<Answer>}
 * @throws {Problem}
 */
export function request(operation, options = {}) {
    const { form, answer = "text", accept, signal, onUpload, onText } = options
    return new Promise((resolve, reject) => {
        const xhr = new XMLHttpRequest()
        xhr.open(form ? "POST" : "GET", new URL(operation, API))
        xhr.responseType = answer
        const key = storedKey()
        if (key) xhr.setRequestHeader("Authorization", `Bearer ${key}`)
        if (accept) xhr.setRequestHeader("Accept", accept)

        const abort = () => xhr.abort()
        signal?.addEventListener("abort", abort)
        const fail = (problem) => {
            signal?.removeEventListener("abort", abort)
            reject(problem)
        }
        let read = 0
        const handOut = () => {
            if (!onText || xhr.status !== 200) return
            const text = xhr.responseText
            if (text.length > read) onText(text.slice(read))
            read = text.length
        }
        if (onUpload) {
            xhr.upload.onprogress = (event) => onUpload(event.loaded, event.total)
            xhr.upload.onload = (event) => onUpload(event.total, event.total)
        }
        xhr.onprogress = handOut
        xhr.onabort = () => fail(new Problem("canceled"))
        xhr.onerror = () => fail(new Problem("network"))
        xhr.onload = async () => {
            const requestId = xhr.getResponseHeader("X-NPE-Request-Id") ?? ""
            if (xhr.status !== 200) {
                const text = answer === "blob" ? await xhr.response.text() : xhr.responseText
                const retryAfter = xhr.getResponseHeader("Retry-After")
                fail(readProblem(xhr.status, text, { retryAfter, requestId }))
                return
            }
            handOut()
            signal?.removeEventListener("abort", abort)
            const metadata = xhr.getResponseHeader("X-NPE-Metadata") ?? ""
            resolve({ body: xhr.response, requestId, metadata })
        }
        if (signal?.aborted) reject(new Problem("canceled"))
        else xhr.send(form ?? null)
    })
}
