import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { CallMedia } from "../../voicews/static/voicews/call-media.js";
import { ErrorCode, VoiceError } from "../../voicews/static/voicews/errors.js";
import { FakeAudio } from "./fake-call.js";
import { settle } from "./fake-clock.js";

const OPTIONS = {
  recorderSampleRate: 16_000, playerSampleRate: null, openUserAudio: null, pushToTalk: false,
};

/** @type {any[]} */
let devices = [];
/** @type {(() => void) | null} */
let plug = null;
const realNavigator = Object.getOwnPropertyDescriptor(globalThis, "navigator");

beforeEach(() => {
  devices = [
    device("audioinput", "default", "Default - Built-in"), device("audioinput", "built-in", "Built-in"),
    device("audioinput", "headset", "Headset"), device("audiooutput", "default", "Default"),
    device("audiooutput", "headphones", "Headphones"), device("videoinput", "cam", "Camera"),
  ];
  const mediaDevices = {
    enumerateDevices: async () => [...devices],
    addEventListener: (/** @type {string} */ _name, /** @type {() => void} */ listener) => {
      plug = listener;
    },
    removeEventListener: () => {
      plug = null;
    },
  };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices }, configurable: true });
});
afterEach(() => {
  if (realNavigator) Object.defineProperty(globalThis, "navigator", realNavigator);
});

/**
 * @param {string} kind
 * @param {string} deviceId
 * @param {string} label
 */
function device(kind, deviceId, label) {
  return { kind, deviceId, label, groupId: "" };
}

/** A microphone's stream as browsers have it. */
class FakeStream {
  /** @param {string} deviceId */
  constructor(deviceId) {
    const { label } = devices.find((one) => one.deviceId === deviceId);
    this.track = { label, kind: "audio", id: deviceId, getSettings: () => ({ deviceId, groupId: "" }) };
  }

  getAudioTracks() {
    return [this.track];
  }
}

class Audio extends FakeAudio {
  micEnabled = false;
  /** @type {any} */
  localStream = null;
  /** @type {string[]} */
  speakers = [];

  /** @param {any} [choice] */
  async open({ mic = false, micId = "" } = {}) {
    if (this.failure) throw this.failure;
    if (mic || this.options.pushToTalk) this.localStream = new FakeStream(micId || "default");
    this.micEnabled = mic;
    this.options.onStream();
  }

  /** @param {string} deviceId */
  async setMic(deviceId) {
    this.localStream = new FakeStream(deviceId || "default");
    this.options.onStream();
  }

  /** @param {string} deviceId */
  async setSpeaker(deviceId) {
    this.speakers.push(deviceId);
  }
}

function openMedia(/** @type {Error | null} */ failure = null) {
  /** @type {any[][]} */
  const events = [];
  /** @type {Audio[]} */
  const audios = [];
  const media = new CallMedia((options) => {
    const audio = new Audio(options);
    audio.failure = failure;
    audios.push(audio);
    return /** @type {any} */ (audio);
  });
  media.emit = (name, ...args) => events.push([name, ...args]);
  const named = (/** @type {string} */ name) => events.filter(([event]) => event === name);
  return { media, events, audios, named };
}

test("opening tells of the devices, the microphone and its track, closing takes the track back", async () => {
  const { media, named, audios } = openMedia();
  assert.equal(media.state.mic.state, "uninitialized");
  await media.open(OPTIONS);
  await media.told;
  assert.equal(named("onAvailableMicsUpdated")[0][1].length, 3);
  assert.equal(named("onAvailableSpeakersUpdated")[0][1].length, 2);
  assert.equal(named("onAvailableCamsUpdated")[0][1].length, 1);
  assert.equal(named("onMicUpdated")[0][1].deviceId, "default");
  assert.deepEqual(named("onTrackStarted").map(([, track, who]) => [track.kind, who.local]), [["audio", true]]);
  assert.deepEqual(named("onMediaStateChanged").map(([, { mic }]) => mic.state), ["initializing", "granted"]);
  assert.equal(media.tracks().local.audio?.kind, "audio");
  assert.equal(/** @type {any} */ (media.selectedSpeaker).deviceId, "default");
  // With the same options what is open stays.
  await media.open({ ...OPTIONS });
  assert.equal(audios.length, 1);
  await media.open({ ...OPTIONS, recorderSampleRate: 8000 });
  assert.deepEqual([audios.length, audios[0].closed], [2, true]);
  media.close();
  assert.equal(named("onTrackStopped").length, 2);
  assert.deepEqual(media.tracks(), { local: {} });
  assert.equal(plug, null);
});

test("muting stops the track for whoever looks, unmuting starts it", async () => {
  const { media, named } = openMedia();
  await media.open(OPTIONS);
  await media.enableMic(false);
  assert.deepEqual(media.tracks(), { local: {} });
  await media.enableMic(true);
  assert.equal(named("onTrackStarted").length, 2);
  assert.equal(named("onTrackStopped").length, 1);
  assert.deepEqual(named("onMicEnabled").map(([, enabled]) => enabled), [true, false, true]);
});

test("a call begins as the last one ended, muted or not; with push-to-talk always muted", async () => {
  const { media, audios } = openMedia();
  await media.open(OPTIONS);
  await media.enableMic(false);
  media.close();
  assert.equal(media.isMicEnabled, false);
  await media.open(OPTIONS);
  assert.equal(audios[1].micEnabled, false);
  media.close();
  media.wantMic(true);
  await media.open({ ...OPTIONS, pushToTalk: true });
  assert.equal(audios[2].micEnabled, false);
  assert.notEqual(audios[2].localStream, null, "the microphone is not taken yet");
  assert.equal(media.state.mic.state, "granted");
  await media.enableMic(true);
  await media.enableMic(false);
  media.close();
  await media.open(OPTIONS);
  assert.equal(audios[3].micEnabled, true, "a button that was let go is no wish to be muted");
});

test("chosen devices are kept, and told", async () => {
  const { media, named, audios } = openMedia();
  await media.open(OPTIONS);
  await media.told;
  await media.updateMic("headset");
  await media.told;
  await media.updateSpeaker("headphones");
  media.updateCam("cam");
  assert.equal(named("onMicUpdated").at(-1)?.[1].deviceId, "headset");
  assert.equal(named("onSpeakerUpdated").at(-1)?.[1].deviceId, "headphones");
  assert.equal(named("onCamUpdated").at(-1)?.[1].deviceId, "cam");
  media.close();
  await media.open(OPTIONS);
  assert.equal(/** @type {any} */ (media.selectedMic).deviceId, "headset");
  assert.equal(audios[1].localStream.track.id, "headset");
});

test("a loudspeaker that is unplugged gives way to the default one, and the page is told", async () => {
  const { media, named, audios } = openMedia();
  await media.open(OPTIONS);
  await settle();
  await media.updateSpeaker("headphones");
  devices = devices.filter(({ deviceId }) => deviceId !== "headphones");
  plug?.();
  await settle();
  assert.deepEqual(audios[0].speakers, ["headphones", ""]);
  assert.equal(named("onError")[0][1].code, ErrorCode.SPEAKER_LOST);
  assert.equal(named("onSpeakerUpdated").at(-1)?.[1].deviceId, "default");
  assert.equal(named("onAvailableSpeakersUpdated").length, 2);
  assert.equal(named("onAvailableMicsUpdated").length, 1, "nothing changed in these");
});

test("a headset that becomes the default microphone is taken, unless another one was chosen", async () => {
  for (const chosen of ["", "built-in"]) {
    const { media, audios } = openMedia();
    await media.open(OPTIONS);
    await settle();
    if (chosen) await media.updateMic(chosen);
    const before = audios[0].localStream;
    devices[0] = device("audioinput", "default", `Default - Headset ${chosen}`);
    plug?.();
    await settle();
    assert.equal(audios[0].localStream === before, chosen !== "");
    media.close();
  }
});

test("why a microphone can't be opened is told in the words of Pipecat's client", async () => {
  for (const [code, type, reason] of [
    [ErrorCode.MICROPHONE_DENIED, "permissions", "blocked"],
    [ErrorCode.MICROPHONE_FORBIDDEN, "permissions", "blocked"],
    [ErrorCode.MICROPHONE_MISSING, "not-found", "not-found"],
    [ErrorCode.MICROPHONE_BUSY, "in-use", "already-in-use"],
    [ErrorCode.INSECURE_CONTEXT, "undefined-mediadevices", "not-supported"],
  ]) {
    const failure = new VoiceError(code, "why");
    const { media, named } = openMedia(failure);
    await assert.rejects(media.open(OPTIONS), (error) => error === failure);
    const [, error] = named("onDeviceError")[0];
    assert.deepEqual([error.devices, error.type, error.code], [["mic"], type, code]);
    assert.deepEqual(media.state.mic, { state: "error", reason });
  }
});

test("the volume is kept from call to call, and must be one", async () => {
  const { media, audios } = openMedia();
  media.volume = 0.25;
  await media.open(OPTIONS);
  assert.equal(audios[0].volume, 0.25);
  media.volume = 1;
  assert.equal(audios[0].volume, 1);
  for (const wrong of [-0.1, 1.1, NaN, /** @type {any} */ ("loud")]) {
    assert.throws(() => {
      media.volume = wrong;
    }, /volume from 0 to 1/);
  }
});
