/** What keyboards of this system call the key of commands. */
export const IS_MAC = /mac/i.test(navigator.userAgentData?.platform ?? navigator.platform)
export const CTRL = IS_MAC ? "⌘" : "Ctrl"
