/** Preact with tagged templates instead of JSX: nothing to compile. Text is always escaped. */

import { h } from "../vendor/preact.js"
import htm from "../vendor/htm.js"

export const html = htm.bind(h)
