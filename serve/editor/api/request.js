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

/** A stream of events is never silent for so long: the gateway sends a comment every 10 s. */
const SILENCE_MS = 45000

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
    const { form, signal } = options
    if (signal?.aborted) return Promise.reject(new Problem("canceled"))
    const xhr = openRequest(operation, options)
    const ended = new AbortController()
    const answered = new Promise((resolve, reject) => {
        const fail = (problem) => {
            reject(problem)
            xhr.abort() // nothing happens where it has ended
        }
        signal?.addEventListener("abort", () => fail(new Problem("canceled")), { signal: ended.signal })
        listen(xhr, options, ended.signal, fail)
        xhr.onload = async () => {
            if (xhr.status !== 200) return fail(await problemOf(xhr))
            const metadata = xhr.getResponseHeader("X-NPE-Metadata") ?? ""
            return resolve({ body: xhr.response, requestId: requestIdOf(xhr), metadata })
        }
        xhr.onerror = () => fail(new Problem("network"))
    })
    xhr.send(form ?? null)
    return answered.finally(() => ended.abort())
}

function openRequest(operation, { form, answer = "text", accept }) {
    const xhr = new XMLHttpRequest()
    xhr.open(form ? "POST" : "GET", new URL(operation, API))
    xhr.responseType = answer
    const key = storedKey()
    if (key) xhr.setRequestHeader("Authorization", `Bearer ${key}`)
    if (accept) xhr.setRequestHeader("Accept", accept)
    return xhr
}

/** Tell of the upload and of text as it comes, and fail when a stream falls silent. */
function listen(xhr, { onUpload, onText }, ended, fail) {
    const heard = onText ? silenceWatch(ended, () => fail(new Problem("network"))) : () => {}
    if (onUpload) {
        xhr.upload.onprogress = ({ loaded, total }) => {
            heard()
            onUpload(loaded, total)
        }
        xhr.upload.onload = ({ total }) => onUpload(total, total)
    }
    if (!onText) return
    let read = 0
    // The last one comes right before "load".
    xhr.onprogress = () => {
        heard()
        if (xhr.status !== 200) return
        const text = xhr.responseText.slice(read)
        read += text.length
        try {
            onText(text)
        } catch (error) {
            fail(error)
        }
    }
}

/** @returns {() => void} to be called at every sign of life */
function silenceWatch(ended, onSilence) {
    let timer = 0
    ended.addEventListener("abort", () => clearTimeout(timer))
    return () => {
        clearTimeout(timer)
        timer = setTimeout(onSilence, SILENCE_MS)
    }
}

/** @param {XMLHttpRequest} xhr @returns {Promise<Problem>} */
async function problemOf(xhr) {
    const text = xhr.responseType === "blob" ? await xhr.response.text() : xhr.responseText
    return readProblem(xhr.status, text, {
        retryAfter: xhr.getResponseHeader("Retry-After"),
        requestId: requestIdOf(xhr),
    })
}

function requestIdOf(xhr) {
    return xhr.getResponseHeader("X-NPE-Request-Id") ?? ""
}
