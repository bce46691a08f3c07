/**
 * What went wrong between the page and the gateway.
 *
 * kind "refused": the gateway said so, in a problem document (RFC 9457) with `field` and `remedy`.
 * kind "network": no answer. kind "canceled": the person stopped it. kind "protocol": an answer that
 * this page does not understand.
 *
 * `detail`, `field` and `remedy` are text from the server: only ever shown as text.
 */
export class Problem extends Error {
    /**
     * @param {"refused"|"network"|"canceled"|"protocol"} kind
     * @param {{status?: number, detail?: string, field?: string|null, remedy?: string,
     *     retryAfterS?: number|null, requestId?: string}} [about]
     */
    constructor(kind, about = {}) {
        super(about.detail ?? kind)
        this.name = "Problem"
        this.kind = kind
        this.status = about.status ?? 0
        this.detail = about.detail ?? ""
        this.field = about.field ?? null
        this.remedy = about.remedy ?? ""
        this.retryAfterS = about.retryAfterS ?? null
        this.requestId = about.requestId ?? ""
    }
}

const MAX_TEXT = 400

/**
 * Read a problem document, or make do with the status where there is none, say from a proxy.
 *
 * @param {number} status
 * @param {string} text   the body
 * @param {{retryAfter?: string|null, requestId?: string|null}} [headers]
 * @returns {Problem}
 */
export function readProblem(status, text, headers = {}) {
    let document = {}
    try {
        document = JSON.parse(text) ?? {}
    } catch {
        // a page of a proxy: its status says enough
    }
    const seconds = Number(headers.retryAfter ?? document.retry_after_s ?? NaN)
    return new Problem("refused", {
        status: Number(document.status) || status,
        detail: shortText(document.detail),
        field: shortText(document.field) || null,
        remedy: shortText(document.remedy),
        retryAfterS: Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, 3600) : null,
        requestId: shortText(headers.requestId),
    })
}

/** @param {unknown} value */
function shortText(value) {
    return typeof value === "string" ? value.slice(0, MAX_TEXT) : ""
}
