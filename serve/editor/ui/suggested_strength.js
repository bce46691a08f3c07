/** How strong an edit is that nobody set the strength of; see "How to choose" in docs/editing.md. */

const FALLBACK = 0.4 // as long as the server's default is unknown
const REDRAWN = 1 // less, and what is to go shines through

/**
 * @param {{isRedrawn: boolean}} edit   whether marks are drawn anew, without paint or color
 * @param {{strength?: number}} defaults   the server's
 * @returns {number} 0..1
 */
export function suggestedStrength({ isRedrawn }, defaults) {
    return isRedrawn ? REDRAWN : (defaults.strength ?? FALLBACK)
}
