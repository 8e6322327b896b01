/**
 * The events of a VoiceClient, by the names of their callbacks.
 */

/** @import { PlaybackReport } from "./jitter-buffer.js" */
/** @import { Message } from "./messages.js" */
/** @import { StateName } from "./states.js" */
/** @import { VoiceError } from "./errors.js" */
/** @import { TransportStats } from "./websocket-transport.js" */

/**
 * @typedef {object} VoiceEvents
 * @property {(state: StateName, previous: StateName) => void} onTransportStateChanged
 * @property {() => void} onConnected the socket is open; the bot has not answered yet
 * @property {(data: BotReady) => void} onBotReady once per call
 * @property {(event: { attempt: number, delayMs: number, error: VoiceError }) => void} onReconnecting
 *   the connection was lost and is tried again after `delayMs`
 * @property {(data: BotReady) => void} onReconnected
 * @property {(event: { code: number | null, reason: string, error: VoiceError | null }) => void} onDisconnected
 *   once per call; `code` is null when no socket was closed by the server, `error` is null when
 *   the call ended as it should
 * @property {(error: VoiceError) => void} onError with `fatal` when the call is over
 * @property {() => void} onUserStartedSpeaking
 * @property {() => void} onUserStoppedSpeaking
 * @property {() => void} onBotStartedSpeaking
 * @property {() => void} onBotStoppedSpeaking
 * @property {(data: UserTranscript) => void} onUserTranscript
 * @property {(data: any) => void} onUserInput text that the bot took as the user's
 * @property {(data: BotOutput) => void} onBotOutput
 * @property {() => void} onInterruption the player was told to drop what it had not played
 * @property {() => void} onBotInterrupted
 * @property {(data: any) => void} onServerMessage
 * @property {(data: any) => void} onMetrics
 * @property {(message: Message) => void} onMessage every message that has no event of its own
 * @property {(level: number) => void} onLocalAudioLevel RMS, 0 to 1, 50 times a second
 * @property {(level: number) => void} onRemoteAudioLevel RMS, 0 to 1, 20 times a second
 * @property {(report: PlaybackReport) => void} onPlayback what the player does, 20 times a second
 * @property {(stats: TransportStats) => void} onStats once a second
 * @property {(enabled: boolean) => void} onMicEnabled
 * @property {() => void} onDevicesChanged
 */

/**
 * @typedef {object} BotReady
 * @property {string} [version] of RTVI
 * @property {Record<string, unknown>} [about]
 * @property {Record<string, boolean>} [capabilities]
 * @property {{ session: string, resume_token: string }} [voicews] of voicews servers only
 */

/**
 * @typedef {object} UserTranscript
 * @property {string} text
 * @property {boolean} final
 * @property {string} [user_id]
 * @property {string} [timestamp]
 */

/**
 * @typedef {object} BotOutput
 * @property {string} text
 * @property {boolean} [spoken]
 * @property {string} [aggregated_by]
 */

/** RTVI messages whose data goes straight to an event. */
export const MESSAGE_EVENTS = /** @type {const} */ ({
  "user-started-speaking": "onUserStartedSpeaking",
  "user-stopped-speaking": "onUserStoppedSpeaking",
  "bot-started-speaking": "onBotStartedSpeaking",
  "bot-stopped-speaking": "onBotStoppedSpeaking",
  "user-transcription": "onUserTranscript",
  "user-input": "onUserInput",
  "bot-output": "onBotOutput",
  "bot-interrupted": "onBotInterrupted",
  "server-message": "onServerMessage",
  metrics: "onMetrics",
});
