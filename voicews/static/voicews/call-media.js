/**
 * The devices of a client: what is chosen and wanted, from call to call, and the audio of the one that is open.
 */

import { CallVideo } from "./call-video.js";
import { DeviceLists } from "./device-lists.js";
import { DeviceError, deviceStatus } from "./device-error.js";
import { ErrorCode, toVoiceError, VoiceError } from "./errors.js";

/** @import { CallAudio, CallAudioOptions } from "./call-audio.js" */
/** @import { DeviceStatus } from "./device-error.js" */
/** @import { DeviceKind } from "./device-lists.js" */
/** @import { VoiceEvents } from "./events.js" */
/** @import { PlaybackReport } from "./jitter-buffer.js" */
/** @import { UserAudioHook } from "./microphone.js" */

const MIC_FRAME_MS = 20;

/** @typedef {{ id: string, name: string, local: boolean }} Participant */

/** @type {Participant} */
export const LOCAL = Object.freeze({ id: "local", name: "", local: true });
/** @type {Participant} */
export const BOT = Object.freeze({ id: "bot", name: "bot", local: false });

/** @typedef {{ mic: DeviceStatus, cam: DeviceStatus }} MediaState */
/** @typedef {MediaDeviceInfo | Record<string, never>} SelectedDevice empty when there is none */
/**
 * @typedef {{
 *   local: { audio?: MediaStreamTrack, video?: MediaStreamTrack, screenVideo?: MediaStreamTrack },
 *   bot?: { audio?: MediaStreamTrack },
 * }} Tracks
 */

/**
 * @typedef {object} MediaOptions
 * @property {number} recorderSampleRate Hz
 * @property {number | null} playerSampleRate Hz
 * @property {UserAudioHook | null} openUserAudio
 * @property {boolean} pushToTalk
 */

/**
 * Who gets the sound: the connection of the call.
 * @typedef {object} MediaListener
 * @property {(pcm: ArrayBuffer, level: number) => void} onMicFrame
 * @property {(pcm: ArrayBuffer | ArrayBufferView) => void} onPageAudio
 * @property {(report: PlaybackReport) => void} onPlayback
 */

/** @typedef {(name: keyof VoiceEvents, ...args: any[]) => void} Emit */

export class CallMedia {
  /** @type {MediaListener | null} */
  listener = null;
  /**
   * What the devices do, for the client of the moment.
   * @type {Emit}
   */
  emit = () => {};
  /** Settles when the newest microphone was told of by `onMicUpdated`. */
  told = Promise.resolve();
  /** The pictures of the call. */
  video = new CallVideo({
    onPicture: (picture) => this.emit("onPicture", picture),
    onTrackStarted: (kind, track) => {
      this.emit(kind === "camera" ? "onTrackStarted" : "onScreenTrackStarted", track, LOCAL);
    },
    onTrackStopped: (kind, track) => {
      this.emit(kind === "camera" ? "onTrackStopped" : "onScreenTrackStopped", track, LOCAL);
    },
  });
  /** @type {CallAudio | null} */
  #audio = null;
  /** @type {MediaOptions | null} of the audio that is open */
  #options = null;
  #createAudio;
  #devices = new DeviceLists((changed) => this.#onDevicesChanged(changed));
  /** @type {MediaState} */
  #state = { mic: { state: "uninitialized" }, cam: { state: "uninitialized" } };
  #wantsMic = true;
  #micId = "";
  #speakerId = "";
  #camId = "";
  #volume = 1;
  /** @type {MediaStreamTrack | null} that is sent now */
  #track = null;

  /**
   * @param {(options: CallAudioOptions) => CallAudio} createAudio
   */
  constructor(createAudio) {
    this.#createAudio = createAudio;
  }

  /** Null while no devices are open. */
  get audio() {
    return this.#audio;
  }

  get isMicEnabled() {
    return this.#audio?.micEnabled ?? this.#wantsMic;
  }

  /** @returns {MediaState} a copy */
  get state() {
    return { mic: { ...this.#state.mic }, cam: { ...this.#state.cam } };
  }

  get volume() {
    return this.#volume;
  }

  /** @param {number} volume 0 to 1, of what is heard; kept for later calls */
  set volume(volume) {
    if (!(volume >= 0 && volume <= 1)) {
      throw new VoiceError(ErrorCode.INVALID_ARGUMENT, `Expected a volume from 0 to 1, found ${volume}.`);
    }
    this.#volume = volume;
    this.#audio?.setVolume(volume);
  }

  /** @param {boolean} wanted whether the next call starts with the microphone on */
  wantMic(wanted) {
    this.#wantsMic = wanted;
  }

  /**
   * Opens the loudspeaker and, when wanted, the microphone. Call it straight from a user's gesture. What is
   * open already, with the same rates, stays.
   * @param {MediaOptions} options
   * @throws {VoiceError} the loudspeaker is open if only the microphone failed, which `onDeviceError` tells
   */
  async open({ recorderSampleRate, playerSampleRate, openUserAudio, pushToTalk }) {
    const options = { recorderSampleRate, playerSampleRate, openUserAudio, pushToTalk };
    if (this.#audio && JSON.stringify(options) === JSON.stringify(this.#options)) {
      this.emit("onMicEnabled", this.isMicEnabled);
      return;
    }
    this.close();
    this.#options = options;
    const mic = this.#wantsMic && !options.pushToTalk;
    if (this.#wantsMic || options.pushToTalk) this.#setState("mic", { state: "initializing" });
    const audio = this.#createAudio({
      ...options,
      frameMs: MIC_FRAME_MS,
      sendAudio: (pcm) => {
        if (this.#audio?.micEnabled) this.listener?.onPageAudio(pcm);
      },
      onMicFrame: (pcm, level) => this.listener?.onMicFrame(pcm, level),
      onPlayback: (report) => this.listener?.onPlayback(report),
      onStream: () => this.#onStream(),
      onError: (error) => this.#onError(error),
    });
    this.#audio = audio;
    this.#devices.start();
    try {
      await audio.open({ mic, micId: this.#micId, speakerId: this.#speakerId });
    } catch (error) {
      if (audio === this.#audio) await this.#failed(error);
      throw error;
    }
    if (audio !== this.#audio) return;
    audio.setVolume(this.#volume);
    if (this.#state.mic.state === "initializing") {
      this.#setState("mic", audio.localStream ? { state: "granted" } : { state: "uninitialized" });
    }
    this.emit("onMicEnabled", this.isMicEnabled);
    void this.#devices.refresh();
  }

  close() {
    const audio = this.#audio;
    this.#audio = this.#options = null;
    this.#devices.stop();
    this.video.close();
    audio?.close();
    this.#onStream();
  }

  /**
   * Muting sends one second of silence and then nothing; see `Microphone.disable` for the device.
   * @param {boolean} enabled
   * @throws {VoiceError} when the microphone can't be opened
   */
  async enableMic(enabled) {
    try {
      await this.#audio?.setMicEnabled(enabled);
      if (enabled && this.#audio?.localStream) this.#setState("mic", { state: "granted" });
      if (!this.#options?.pushToTalk) this.#wantsMic = enabled;
    } catch (error) {
      await this.#failed(error);
      throw error;
    } finally {
      this.#onStream();
      this.emit("onMicEnabled", this.isMicEnabled);
    }
  }

  get isCamEnabled() {
    return this.video.track("camera") !== null;
  }

  get isSharingScreen() {
    return this.video.track("screen") !== null;
  }

  /**
   * @param {boolean} enabled
   * @throws {VoiceError} when the camera can't be opened
   */
  async enableCam(enabled) {
    if (enabled) this.#setState("cam", { state: "initializing" });
    try {
      await this.video.enable("camera", enabled, this.#camId);
    } catch (error) {
      await this.#failed(error);
      throw error;
    }
    this.#setState("cam", enabled ? { state: "granted" } : { state: "uninitialized" });
    if (enabled) void this.#devices.refresh().then(() => this.#tellSelected("onCamUpdated", this.selectedCam));
  }

  /**
   * @param {boolean} enabled
   * @throws {VoiceError} when the user shares nothing
   */
  async enableScreenShare(enabled) {
    if (enabled && !globalThis.navigator?.mediaDevices?.getDisplayMedia) {
      this.emit("onUnsupportedFeature", unsupported("enableScreenShare"));
      return;
    }
    try {
      await this.video.enable("screen", enabled);
    } catch (error) {
      this.emit("onScreenShareError", error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  /** @param {DeviceKind} kind */
  async devices(kind) {
    await this.#devices.refresh();
    return this.#devices.list(kind);
  }

  /**
   * @param {string} deviceId the browser's default when empty; kept for later calls
   * @throws {VoiceError} the device that was in use stays in use
   */
  async updateMic(deviceId) {
    try {
      await this.#audio?.setMic(deviceId);
    } catch (error) {
      await this.#failed(error);
      throw error;
    }
    this.#micId = deviceId;
    if (!this.#audio?.localStream) this.#tellSelected("onMicUpdated", this.selectedMic);
  }

  /**
   * @param {string} deviceId the browser's default when empty; kept for later calls
   * @throws {VoiceError} speaker-unsupported, speaker-failed
   */
  async updateSpeaker(deviceId) {
    await this.#audio?.setSpeaker(deviceId);
    this.#speakerId = deviceId;
    this.#tellSelected("onSpeakerUpdated", this.selectedSpeaker);
  }

  /**
   * @param {string} deviceId the browser's default when empty; kept for later calls
   * @throws {VoiceError} when that camera can't be opened
   */
  async updateCam(deviceId) {
    this.#camId = deviceId;
    if (this.video.track("camera")) await this.enableCam(true);
    else this.#tellSelected("onCamUpdated", this.selectedCam);
  }

  /** @returns {SelectedDevice} */
  get selectedMic() {
    const track = this.#audio?.localStream?.getAudioTracks()[0];
    const { deviceId = this.#micId, groupId = "" } = track?.getSettings() ?? {};
    const found = this.#selected("audioinput", deviceId);
    if (found.deviceId || !track) return found;
    // A stream of the page's own is of no device.
    const info = { kind: /** @type {const} */ ("audioinput"), deviceId: deviceId || track.id, groupId };
    return { ...info, label: track.label, toJSON: () => info };
  }

  /** @returns {SelectedDevice} */
  get selectedSpeaker() {
    return this.#selected("audiooutput", this.#speakerId);
  }

  /** @returns {SelectedDevice} */
  get selectedCam() {
    return this.#selected("videoinput", this.#camId);
  }

  /** @returns {Tracks} what is sent */
  tracks() {
    const camera = this.video.track("camera");
    const screen = this.video.track("screen");
    return {
      local: {
        ...(this.#track ? { audio: this.#track } : {}),
        ...(camera ? { video: camera } : {}),
        ...(screen ? { screenVideo: screen } : {}),
      },
    };
  }

  /**
   * @param {DeviceKind} kind
   * @param {string} deviceId
   * @returns {SelectedDevice}
   */
  #selected(kind, deviceId) {
    return this.#devices.find(kind, deviceId || "default") ?? {};
  }

  /**
   * @param {"onMicUpdated" | "onCamUpdated" | "onSpeakerUpdated"} event
   * @param {SelectedDevice} device
   */
  #tellSelected(event, device) {
    if (device.deviceId) this.emit(event, device);
  }

  /** The microphone was opened, muted, exchanged or let go. */
  #onStream() {
    const track = this.#audio?.micEnabled
      ? this.#audio.localStream?.getAudioTracks()[0] ?? null
      : null;
    if (track === this.#track) return;
    const before = this.#track;
    this.#track = track;
    if (before) this.emit("onTrackStopped", before, LOCAL);
    if (!track) return;
    this.emit("onTrackStarted", track, LOCAL);
    this.told = this.#devices.refresh().then(() => {
      if (track === this.#track) this.#tellSelected("onMicUpdated", this.selectedMic);
    });
  }

  /** @param {DeviceKind[]} changed */
  #onDevicesChanged(changed) {
    /** @type {Record<DeviceKind, keyof VoiceEvents>} */
    const events = {
      audioinput: "onAvailableMicsUpdated",
      videoinput: "onAvailableCamsUpdated",
      audiooutput: "onAvailableSpeakersUpdated",
    };
    for (const kind of changed) this.emit(events[kind], this.#devices.list(kind));
    this.emit("onDevicesChanged");
    if (changed.includes("audiooutput")) void this.#keepSpeaker();
    if (changed.includes("audioinput")) void this.#followDefaultMic();
  }

  /** The loudspeaker of the call was unplugged: on with the default one. */
  async #keepSpeaker() {
    if (!this.#speakerId || this.#devices.find("audiooutput", this.#speakerId)) return;
    try {
      await this.updateSpeaker("");
      this.emit("onError", new VoiceError(
        ErrorCode.SPEAKER_LOST, "The loudspeaker was disconnected. The call goes on with another one.",
      ));
    } catch (error) {
      this.emit("onError", toVoiceError(error, ErrorCode.SPEAKER_FAILED, "The loudspeaker can't be used."));
    }
  }

  /** Browsers go on with the old default device when there is a new one, as when a headset is plugged in. */
  async #followDefaultMic() {
    const track = this.#audio?.localStream?.getAudioTracks()[0];
    const label = this.#devices.find("audioinput", "default")?.label;
    if (this.#micId || !track || !label || track.getSettings().deviceId !== "default") return;
    if (track.label === label || this.#options?.openUserAudio) return;
    await this.#audio?.setMic("").catch((error) => this.#failed(error));
  }

  /** @param {VoiceError} error */
  #onError(error) {
    if (error.code === ErrorCode.MICROPHONE_LOST) {
      this.#micId = "";
      if (!this.isMicEnabled) void this.#failed(error);
    }
    this.#onStream();
    this.emit("onError", error);
    this.emit("onMicEnabled", this.isMicEnabled);
  }

  /** @param {unknown} error */
  async #failed(error) {
    if (!(error instanceof VoiceError)) return;
    const deviceError = DeviceError.of(error);
    if (!deviceError) return;
    for (const device of /** @type {const} */ (["mic", "cam"])) {
      if (deviceError.devices.includes(device)) this.#setState(device, deviceStatus(deviceError));
    }
    this.emit("onDeviceError", deviceError);
  }

  /**
   * @param {"mic" | "cam"} device
   * @param {DeviceStatus} status
   */
  #setState(device, status) {
    if (JSON.stringify(this.#state[device]) === JSON.stringify(status)) return;
    this.#state = { ...this.#state, [device]: status };
    this.emit("onMediaStateChanged", this.state);
  }
}

/** @param {string} feature */
function unsupported(feature) {
  const error = new VoiceError(ErrorCode.UNSUPPORTED, `${feature}: this browser does not do that.`);
  return Object.assign(error, { feature });
}
