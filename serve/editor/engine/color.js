/** @param {string} color  "#rrggbb" @returns {number[]} three bytes */
export const colorBytes = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16))

/** @param {ArrayLike<number>} bytes  red, green, blue, ... @returns {string} "#rrggbb" */
export const colorText = (bytes) => `#${[0, 1, 2].map((at) => bytes[at].toString(16).padStart(2, "0")).join("")}`
