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
 *   the connection was lost: the first or the second round of tries starts after `delayMs`
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
 * @property {(data: { text: string }) => void} onOperatorMessage somebody wrote to the caller from the
 *   admin; also an `onServerMessage`
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
 * @property {{ session: string, resume_token: string, reconnect_grace_secs?: number }} [voicews] of
 *   voicews servers only
 */

/**
 * @typedef {object} UserTranscript
 * @property {string} text
 * @property {boolean} final
 * @property {string} [user_id]
 * @property {string} [timestamp]
 */

/**
 * Text of the bot. RTVI 2 reports one segment several times, as it goes on being spoken; whatever version
 * the server speaks, the fields are there under the names of both.
 * @typedef {object} BotOutput
 * @property {string} text of the whole segment
 * @property {string} output_type "sentence", "word", "code", ...
 * @property {string} aggregated_by the same, as RTVI 1 calls it
 * @property {boolean} will_be_spoken
 * @property {boolean} spoken the same, as RTVI 1 calls it
 * @property {number} [segment_id] of RTVI 2: reports of one segment have the same
 * @property {"new" | "in-progress" | "completed"} [spoken_status] how far it was spoken, if it is
 * @property {{ accumulated_text: string, remaining_text: string }} [spoken_progress]
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
