/**
 * Everything that a page may import.
 */

export { CloseCode } from "./close-codes.js";
export { DeviceError } from "./device-error.js";
export { ErrorCode, explain, VoiceError } from "./errors.js";
export { LogLevel } from "./log.js";
export { OpusFrameSerializer } from "./opus-frame-serializer.js";
export { PictureCanvas } from "./picture-canvas.js";
export { ProtobufFrameSerializer } from "./protobuf-frame-serializer.js";
export { pushToTalk } from "./push-to-talk.js";
export { Resampler } from "./resampler.js";
export { State } from "./states.js";
export { VERSION } from "./version.js";
export { VoiceClient } from "./voice-client.js";
export { WebSocketTransport } from "./websocket-transport.js";
