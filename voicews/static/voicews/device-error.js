/**
 * What went wrong with a device, in the words of Pipecat's client: for its `onDeviceError` and `mediaState`.
 */

import { ErrorCode, VoiceError } from "./errors.js";

/** @typedef {"in-use" | "permissions" | "undefined-mediadevices" | "not-found" | "constraints" | "unknown"} DeviceErrorType */
/** @typedef {"blocked" | "already-in-use" | "not-found" | "invalid-constraints" | "not-supported" | "unknown"} DeviceErrorReason */
/**
 * @typedef {{ state: "uninitialized" | "initializing" | "granted" }
 *   | { state: "error", reason: DeviceErrorReason }} DeviceStatus
 */

/** @type {Record<string, ["mic" | "cam" | "speaker", DeviceErrorType]>} */
const TYPES = {
  [ErrorCode.CAMERA_BUSY]: ["cam", "in-use"],
  [ErrorCode.CAMERA_DENIED]: ["cam", "permissions"],
  [ErrorCode.CAMERA_FAILED]: ["cam", "unknown"],
  [ErrorCode.CAMERA_MISSING]: ["cam", "not-found"],
  [ErrorCode.INSECURE_CONTEXT]: ["mic", "undefined-mediadevices"],
  [ErrorCode.MICROPHONE_BUSY]: ["mic", "in-use"],
  [ErrorCode.MICROPHONE_DENIED]: ["mic", "permissions"],
  [ErrorCode.MICROPHONE_FAILED]: ["mic", "unknown"],
  [ErrorCode.MICROPHONE_FORBIDDEN]: ["mic", "permissions"],
  [ErrorCode.MICROPHONE_LOST]: ["mic", "not-found"],
  [ErrorCode.MICROPHONE_MISSING]: ["mic", "not-found"],
  [ErrorCode.SPEAKER_FAILED]: ["speaker", "unknown"],
};

/** @type {Record<DeviceErrorType, DeviceErrorReason>} */
const REASONS = {
  "in-use": "already-in-use",
  permissions: "blocked",
  "undefined-mediadevices": "not-supported",
  "not-found": "not-found",
  constraints: "invalid-constraints",
  unknown: "unknown",
};

export class DeviceError extends VoiceError {
  /**
   * @param {VoiceError} error
   * @param {("mic" | "cam" | "speaker")[]} devices
   * @param {DeviceErrorType} type
   */
  constructor(error, devices, type) {
    super(error.code, error.message, { reason: error.reason, cause: error });
    this.devices = devices;
    this.type = type;
    this.details = { sourceError: error };
  }

  /**
   * @param {VoiceError} error
   * @returns {DeviceError | null} null if it is about no device
   */
  static of(error) {
    const found = TYPES[error.code];
    return found ? new DeviceError(error, [found[0]], found[1]) : null;
  }
}

/**
 * @param {DeviceError} error
 * @returns {DeviceStatus}
 */
export function deviceStatus({ type }) {
  return { state: "error", reason: REASONS[type] };
}
