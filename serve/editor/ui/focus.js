import { useEffect, useRef } from "../vendor/preact_hooks.js"

/**
 * Take the focus when it has nowhere to be, because what had it is gone: who goes by keyboard goes on from here.
 *
 * @param {string} selector   of what gets it, inside the element with the returned ref
 */
export function useTakenFocus(selector) {
    const box = useRef(null)
    useEffect(() => {
        if (document.activeElement === document.body) box.current?.querySelector(selector)?.focus({ preventScroll: true })
    }, [])
    return box
}
