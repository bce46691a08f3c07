/** Server-sent events from text that arrives in pieces (HTML standard, 9.2.6). */
export class EventParser {
    #rest = ""

    /**
     * @param {string} text   what has arrived since the last call
     * @returns {{name: string, data: string}[]} the events that it completes
     */
    feed(text) {
        // A result of many MB comes in many pieces: each is looked through once.
        let searched = Math.max(0, this.#rest.length - 1)
        this.#rest += text
        const events = []
        for (;;) {
            const end = this.#rest.indexOf("\n\n", searched)
            if (end < 0) return events
            const event = readEvent(this.#rest.slice(0, end))
            this.#rest = this.#rest.slice(end + 2)
            searched = 0
            if (event !== null) events.push(event)
        }
    }
}

/** @param {string} block */
function readEvent(block) {
    let name = "message"
    const data = []
    for (const line of block.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim()
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart())
        // the rest are comments, which keep the connection open
    }
    return data.length ? { name, data: data.join("\n") } : null
}
