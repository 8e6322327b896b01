/**
 * Opens a microphone, and says clearly why it could not.
 */

import { ErrorCode, VoiceError } from "./errors.js";

/** @type {Record<string, [string, string]>} */
const FAILURES = {
  NotAllowedError: [
    ErrorCode.MICROPHONE_DENIED,
    "The microphone is blocked. Allow it for this site in the browser's settings and try again.",
  ],
  NotFoundError: [ErrorCode.MICROPHONE_MISSING, "No microphone was found. Connect one and try again."],
  OverconstrainedError: [ErrorCode.MICROPHONE_MISSING, "The chosen microphone is not there. Choose another one."],
  NotReadableError: [
    ErrorCode.MICROPHONE_BUSY,
    "The microphone can't be opened. If another program uses it, end that and try again.",
  ],
  AbortError: [
    ErrorCode.MICROPHONE_BUSY,
    "The microphone can't be opened. If another program uses it, end that and try again.",
  ],
};

/** @returns {VoiceError} */
export function insecureContext() {
  const isInsecureParent = globalThis.location?.protocol === "https:";
  return new VoiceError(
    ErrorCode.INSECURE_CONTEXT,
    isInsecureParent
      ? "Calls need a secure page, and the page that this one is embedded in is not: open that with https://."
      : "Calls need a secure page: open it with https://, or on localhost.",
  );
}

/**
 * The site itself keeps the microphone from this page: no setting of the browser will help.
 * @param {string} reason
 * @returns {VoiceError}
 */
function forbiddenBySite(reason) {
  const isEmbedded = globalThis.top !== globalThis.self;
  return new VoiceError(
    ErrorCode.MICROPHONE_FORBIDDEN,
    isEmbedded
      ? "The page that this one is embedded in does not let it use the microphone: its <iframe> needs "
        + "allow=\"microphone\". Open this page in a window of its own."
      : "This site forbids the use of the microphone on this page, with its Permissions-Policy header. "
        + "The browser's settings can't change that.",
    { reason },
  );
}

/** @returns {boolean} false also where the browser does not tell */
function isForbiddenBySite() {
  const { featurePolicy } = /** @type {{ featurePolicy?: { allowsFeature(name: string): boolean } }} */ (
    /** @type {unknown} */ (globalThis.document ?? {})
  );
  return featurePolicy !== undefined && !featurePolicy.allowsFeature("microphone");
}

/**
 * @param {string | undefined} deviceId the browser's default microphone when empty
 * @returns {Promise<MediaStream>}
 * @throws {VoiceError}
 */
export async function openMicrophone(deviceId) {
  if (!globalThis.navigator?.mediaDevices?.getUserMedia) throw insecureContext();
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: {
        ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
      },
    });
  } catch (error) {
    throw microphoneError(error);
  }
}

/**
 * @param {unknown} error as getUserMedia gives it
 * @returns {VoiceError}
 */
function microphoneError(error) {
  const reason = String(error);
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  if (name === "SecurityError" || (name === "NotAllowedError" && isForbiddenBySite())) {
    return forbiddenBySite(reason);
  }
  const [code, message] = FAILURES[name] ?? [
    ErrorCode.MICROPHONE_FAILED,
    "The microphone can't be opened.",
  ];
  return new VoiceError(code, message, { reason, cause: error });
}

/** @returns {Promise<boolean>} whether taking the microphone again asks the user nothing */
export async function isMicrophoneGranted() {
  try {
    const name = /** @type {PermissionName} */ ("microphone");
    return (await navigator.permissions.query({ name })).state === "granted";
  } catch {
    // Not every browser knows this permission by name.
    return false;
  }
}

/**
 * @param {"audioinput" | "audiooutput"} kind
 * @returns {Promise<MediaDeviceInfo[]>} labels are empty until the microphone was allowed once
 */
export async function listDevices(kind) {
  if (!globalThis.navigator?.mediaDevices?.enumerateDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  // Before the permission is given, browsers list one nameless device without an id.
  return devices.filter((device) => device.kind === kind && device.deviceId !== "");
}
