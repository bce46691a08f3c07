import { h } from "../vendor/preact.js"
import { ICONS } from "../vendor/lucide.js"

/**
 * An icon; decoration only, what it means is said beside it.
 *
 * @param {{name: keyof typeof ICONS, size?: number}} props
 */
export function Icon({ name, size = 20 }) {
    const shapes = ICONS[name].map(([tag, attributes]) => h(tag, attributes))
    return h(
        "svg",
        {
            width: size,
            height: size,
            viewBox: "0 0 24 24",
            fill: "none",
            stroke: "currentColor",
            "stroke-width": 1.75,
            "stroke-linecap": "round",
            "stroke-linejoin": "round",
            "aria-hidden": "true",
            focusable: "false",
        },
        shapes,
    )
}
