/**
 * The events of a VoiceClient, by the names of their callbacks: those of Pipecat's client, and ours.
 */

/** @import { MediaState, Participant } from "./call-media.js" */
/** @import { DeviceError } from "./device-error.js" */
/** @import { VoiceError } from "./errors.js" */
/** @import { Picture } from "./image-receiver.js" */
/** @import { ImageSettings } from "./image-sender.js" */
/** @import { PlaybackReport } from "./jitter-buffer.js" */
/** @import { Message } from "./messages.js" */
/** @import { StateName } from "./states.js" */
/** @import { TransportStats } from "./voice-connection.js" */

/**
 * @typedef {object} CallEvents the life of a call
 * @property {(state: StateName, previous: StateName) => void} onTransportStateChanged
 * @property {(answer: unknown) => void} onBotStarted the connect endpoint has answered
 * @property {() => void} onConnected the socket is open; the bot has not answered yet
 * @property {(bot: Participant) => void} onBotConnected
 * @property {(participant: Participant) => void} onParticipantJoined
 * @property {(data: BotReady) => void} onBotReady once per call
 * @property {(event: { attempt: number, delayMs: number, error: VoiceError }) => void} onReconnecting
 *   the connection was lost: the first or the second round of tries starts after `delayMs`
 * @property {(data: BotReady) => void} onReconnected
 * @property {(bot: Participant) => void} onBotDisconnected
 * @property {(participant: Participant) => void} onParticipantLeft
 * @property {(event: { code: number | null, reason: string, error: VoiceError | null }) => void} onDisconnected
 *   once per call; `code` is null when no socket was closed by the server, `error` is null when
 *   the call ended as it should
 * @property {(error: VoiceError) => void} onError with `fatal` when the call is over
 * @property {(stats: TransportStats) => void} onStats once a second
 */

/**
 * @typedef {object} ConversationEvents what is said and sent
 * @property {() => void} onUserStartedSpeaking
 * @property {() => void} onUserStoppedSpeaking
 * @property {() => void} onBotStartedSpeaking
 * @property {() => void} onBotStoppedSpeaking
 * @property {() => void} onUserMuteStarted the bot does not listen for a while
 * @property {() => void} onUserMuteStopped
 * @property {(data: UserTranscript) => void} onUserTranscript
 * @property {(data: { text: string }) => void} onUserLlmText
 * @property {(data: any) => void} onUserInput text that the bot took as the user's
 * @property {(data: BotOutput) => void} onBotOutput
 * @property {(data: { text: string }) => void} onBotTranscript
 * @property {(data: { text: string }) => void} onBotLlmText
 * @property {() => void} onBotLlmStarted
 * @property {() => void} onBotLlmStopped
 * @property {(data: { text: string }) => void} onBotTtsText
 * @property {() => void} onBotTtsStarted
 * @property {() => void} onBotTtsStopped
 * @property {(data: any) => void} onBotLlmSearchResponse
 * @property {(data: any) => void} onLLMFunctionCall
 * @property {(data: any) => void} onLLMFunctionCallStarted
 * @property {(data: any) => void} onLLMFunctionCallInProgress
 * @property {(data: any) => void} onLLMFunctionCallStopped
 * @property {() => void} onInterruption the player was told to drop what it had not played
 * @property {() => void} onBotInterrupted
 * @property {(data: any) => void} onServerMessage
 * @property {(data: { text: string }) => void} onOperatorMessage somebody wrote to the caller from the
 *   admin; also an `onServerMessage`
 * @property {(message: Message) => void} onMessageError the bot refused what was sent
 * @property {(data: { command: string, payload: unknown }) => void} onUICommand
 * @property {(data: any) => void} onUIJobGroup
 * @property {(data: any) => void} onMetrics
 * @property {(message: Message) => void} onMessage every message that has no event of its own
 * @property {(message: unknown) => void} onRawMessage what the serializer calls raw
 */

/**
 * @typedef {object} MediaEvents sound, pictures and devices
 * @property {(picture: Picture) => void} onPicture the bot shows a picture; `PictureCanvas` draws it
 * @property {(level: number) => void} onLocalAudioLevel RMS, 0 to 1, 50 times a second
 * @property {(level: number, participant: Participant) => void} onRemoteAudioLevel RMS, 0 to 1, 20 times
 *   a second
 * @property {(report: PlaybackReport) => void} onPlayback what the player does, 20 times a second
 * @property {(enabled: boolean) => void} onMicEnabled
 * @property {(track: MediaStreamTrack, participant?: Participant) => void} onTrackStarted
 * @property {(track: MediaStreamTrack, participant?: Participant) => void} onTrackStopped
 * @property {(track: MediaStreamTrack, participant?: Participant) => void} onScreenTrackStarted
 * @property {(track: MediaStreamTrack, participant?: Participant) => void} onScreenTrackStopped
 * @property {(message: string) => void} onScreenShareError
 * @property {(devices: MediaDeviceInfo[]) => void} onAvailableMicsUpdated
 * @property {(devices: MediaDeviceInfo[]) => void} onAvailableCamsUpdated
 * @property {(devices: MediaDeviceInfo[]) => void} onAvailableSpeakersUpdated
 * @property {(device: MediaDeviceInfo) => void} onMicUpdated
 * @property {(device: MediaDeviceInfo) => void} onCamUpdated
 * @property {(device: MediaDeviceInfo) => void} onSpeakerUpdated
 * @property {() => void} onDevicesChanged
 * @property {(error: DeviceError) => void} onDeviceError
 * @property {(state: MediaState) => void} onMediaStateChanged
 * @property {(error: VoiceError & { feature: string }) => void} onUnsupportedFeature
 */

/** @typedef {CallEvents & ConversationEvents & MediaEvents} VoiceEvents */

/**
 * @typedef {object} BotReady
 * @property {string} [version] of RTVI
 * @property {Record<string, unknown>} [about]
 * @property {Record<string, boolean>} [capabilities]
 * @property {{ session: string, resume_token: string, reconnect_grace_secs?: number,
 *   video_in?: Partial<ImageSettings> }} [voicews] of voicews servers only
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
  "user-mute-started": "onUserMuteStarted",
  "user-mute-stopped": "onUserMuteStopped",
  "user-transcription": "onUserTranscript",
  "user-llm-text": "onUserLlmText",
  "user-input": "onUserInput",
  "bot-output": "onBotOutput",
  "bot-transcription": "onBotTranscript",
  "bot-llm-text": "onBotLlmText",
  "bot-llm-started": "onBotLlmStarted",
  "bot-llm-stopped": "onBotLlmStopped",
  "bot-tts-text": "onBotTtsText",
  "bot-tts-started": "onBotTtsStarted",
  "bot-tts-stopped": "onBotTtsStopped",
  "bot-llm-search-response": "onBotLlmSearchResponse",
  "llm-function-call": "onLLMFunctionCall",
  "llm-function-call-started": "onLLMFunctionCallStarted",
  "llm-function-call-in-progress": "onLLMFunctionCallInProgress",
  "llm-function-call-stopped": "onLLMFunctionCallStopped",
  "bot-interrupted": "onBotInterrupted",
  "server-message": "onServerMessage",
  "ui-command": "onUICommand",
  "ui-job-group": "onUIJobGroup",
  metrics: "onMetrics",
});
