/** Server-sent events from text that arrives in pieces (HTML standard, 9.2.6). */
export class EventParser {
    /** Pieces of an event that has not ended. @type {string[]} */
    #pieces = []
    #last = ""

    /**
     * @param {string} text   what has arrived since the last call
     * @returns {{name: string, data: string}[]} the events that it completes
     */
    feed(text) {
        // A result of many MB comes in many pieces: each is looked through once, and joined once.
        const isEnded = (this.#last + text).includes("\n\n")
        this.#pieces.push(text)
        this.#last = text.slice(-1) || this.#last
        if (!isEnded) return []
        const blocks = this.#pieces.join("").split("\n\n")
        this.#pieces = [blocks.pop()]
        this.#last = this.#pieces[0].slice(-1)
        return blocks.map(readEvent).filter((event) => event !== null)
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
