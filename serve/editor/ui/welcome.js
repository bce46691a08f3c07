import { S } from "../strings.js"
import { Button } from "./controls.js"
import { askForFile } from "./header.js"
import { html } from "./html.js"
import { photoLimits } from "./state.js"
import { TroubleCard } from "./trouble_card.js"
import { showTrouble } from "./troubles.js"
import { openFile } from "./work.js"

const NUM_SAMPLES = 6

/** The first screen: a photo of one's own, or a generated portrait. */
export function Welcome() {
    const { bytes, pixels } = photoLimits.value
    return html`<main class="welcome" id="stage" tabIndex="-1">
        <div class="welcome-inner">
            <h2>${S.welcome.title}</h2>
            <p class="lead">${S.welcome.lead}</p>
            <div class="welcome-open">
                <${Button} icon="open" kind="primary" className="large" label=${S.welcome.open} onClick=${askForFile} />
                <span class="hint">${S.welcome.or}</span>
            </div>
            <p class="hint">${S.welcome.formats(Math.floor(pixels / 1e6), bytes)}. ${S.welcome.privacy}</p>
            <section aria-labelledby="samples-title" class="samples-box">
                <h3 id="samples-title">${S.welcome.samples}</h3>
                <ul class="samples">
                    ${Array.from({ length: NUM_SAMPLES }, (_, number) => html`<li key=${number}>
                        <button type="button" class="sample" onClick=${() => openSample(number)}>
                            <img src=${`samples/${number}.jpg`} width="512" height="512" loading="lazy"
                                alt=${S.welcome.sample(number + 1)} />
                        </button>
                    </li>`)}
                </ul>
            </section>
            <${TroubleCard} />
        </div>
    </main>`
}

async function openSample(number) {
    try {
        const answer = await fetch(`samples/${number}.jpg`)
        if (!answer.ok) throw new Error(`status ${answer.status}`)
        const blob = await answer.blob()
        await openFile(new File([blob], `portrait-${number + 1}.jpg`, { type: "image/jpeg" }))
    } catch (error) {
        showTrouble(error, () => openSample(number))
    }
}
