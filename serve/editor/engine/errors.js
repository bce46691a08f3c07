/**
 * What the engine refuses, as codes and numbers: words for people are the interface's.
 *
 * code: "not-an-image" {}, "unsupported-type" {found}, "too-many-bytes" {bytes, limit},
 * "too-many-pixels" {width, height, limit}, "too-long" {width, height, limit}, "too-small" {width, height, limit},
 * "broken-image" {}, "wrong-size" {width, height, expected: {width, height}}, "inexact-base" {},
 * "storage-full" {}, "storage-unavailable" {}, "engine-failed" {} (no memory, or a script that did not load).
 */
export class EditorError extends Error {
    /**
     * @param {string} code
     * @param {object} [details]  become fields of the error
     * @param {unknown} [cause]
     */
    constructor(code, details = {}, cause = undefined) {
        super(code, { cause })
        this.name = "EditorError"
        this.code = code
        Object.assign(this, details)
    }
}
