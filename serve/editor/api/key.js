/**
 * The API key: from the address once, then for as long as the tab is open.
 *
 * It is kept in sessionStorage, which other tabs and later visits do not see, and is only ever sent to
 * the gateway that served the page.
 */

const STORED_AS = "npe-api-key"

/**
 * Take the key out of an address such as `/editor/#key=npe_...`, so that neither history nor a shared
 * link holds it. It does not take the place of another one by itself: anybody can send a link.
 *
 * @returns {string|null} a key that differs from the one in use
 */
export function takeKeyFromAddress() {
    const key = new URLSearchParams(location.hash.slice(1)).get("key")
    if (key === null) return null
    history.replaceState(null, "", location.pathname + location.search)
    if (storedKey() && storedKey() !== key.trim()) return key
    storeKey(key)
    return null
}

/** @returns {string} the key, or "" */
export function storedKey() {
    try {
        return sessionStorage.getItem(STORED_AS) ?? ""
    } catch {
        return "" // storage may be forbidden: the page then asks again after a reload
    }
}

/** @param {string} key */
export function storeKey(key) {
    try {
        sessionStorage.setItem(STORED_AS, key.trim())
    } catch {
        // see storedKey
    }
}

/**
 * Tell whether a key can be sent at all: a header takes printable ASCII only.
 *
 * @param {string} key
 */
export function looksLikeKey(key) {
    return /^npe_[\x21-\x7e]{8,200}$/.test(key.trim())
}
