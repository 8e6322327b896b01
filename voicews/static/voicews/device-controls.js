/**
 * What a page may do with sound and devices, by the names of Pipecat's client: the same for client and transport.
 */

/** @import { CallMedia, SelectedDevice, Tracks } from "./call-media.js" */

// Pipecat's client hands its transport out as a proxy, whose getters can't see private fields.
export class DeviceControls {
  /** @param {CallMedia} media */
  constructor(media) {
    this.media = media;
  }

  /** The player's last node, to connect an analyser or a recorder to; null outside a call. */
  get playbackNode() {
    return this.media.audio?.playbackNode ?? null;
  }

  /** The audio context of the player; null outside a call. */
  get audioContext() {
    return this.media.audio?.context ?? null;
  }

  /**
   * The node that plays one of the server's `audio_out_destinations`, to be heard by an analyser or
   * routed elsewhere; null before the first of it has come.
   * @param {string} destination
   */
  destinationNode(destination) {
    return this.media.audio?.destinationNode(destination) ?? null;
  }

  /** What is played, as a stream; null outside a call. */
  get remoteStream() {
    return this.media.audio?.remoteStream ?? null;
  }

  /** The microphone's stream; null while there is none. */
  get localStream() {
    return this.media.audio?.localStream ?? null;
  }

  /** Of what is heard, 0 to 1; kept for later calls. */
  get volume() {
    return this.media.volume;
  }

  set volume(volume) {
    this.media.volume = volume;
  }

  /** Whether each device is there and allowed, independent of calls. */
  get mediaState() {
    return this.media.state;
  }

  get isMicEnabled() {
    return this.media.isMicEnabled;
  }

  /**
   * Muting sends one second of silence and then nothing; see `Microphone.disable` for the device.
   * @param {boolean} enabled
   * @throws {VoiceError} when the microphone can't be opened
   */
  async enableMic(enabled) {
    await this.media.enableMic(enabled);
  }

  get isCamEnabled() {
    return this.media.isCamEnabled;
  }

  /**
   * Pictures of the camera go to a bot that wants them, as often and as large as it asks for.
   * @param {boolean} enabled
   * @throws {VoiceError} when the camera can't be opened
   */
  async enableCam(enabled) {
    await this.media.enableCam(enabled);
  }

  get isSharingScreen() {
    return this.media.isSharingScreen;
  }

  /**
   * @param {boolean} enabled call it from a user's gesture
   * @throws {VoiceError} when the user shares nothing
   */
  async enableScreenShare(enabled) {
    await this.media.enableScreenShare(enabled);
  }

  async getAllMics() {
    return this.media.devices("audioinput");
  }

  async getAllCams() {
    return this.media.devices("videoinput");
  }

  async getAllSpeakers() {
    return this.media.devices("audiooutput");
  }

  /** @returns {SelectedDevice} empty while there is none, as are the other two */
  get selectedMic() {
    return this.media.selectedMic;
  }

  /** @returns {SelectedDevice} */
  get selectedCam() {
    return this.media.selectedCam;
  }

  /** @returns {SelectedDevice} */
  get selectedSpeaker() {
    return this.media.selectedSpeaker;
  }

  /**
   * @param {string} deviceId the browser's default when empty; kept for later calls
   * @throws {VoiceError} the device that was in use stays in use
   */
  async updateMic(deviceId) {
    await this.media.updateMic(deviceId);
  }

  /** @param {string} deviceId the browser's default when empty; kept for later calls */
  async updateCam(deviceId) {
    await this.media.updateCam(deviceId);
  }

  /**
   * @param {string} deviceId the browser's default when empty; kept for later calls
   * @throws {VoiceError} speaker-unsupported, speaker-failed
   */
  async updateSpeaker(deviceId) {
    await this.media.updateSpeaker(deviceId);
  }

  /** @returns {Tracks} what is sent now */
  tracks() {
    return this.media.tracks();
  }
}
