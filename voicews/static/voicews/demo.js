/**
 * The demo page: connects its controls to a VoiceClient.
 */

import { Timeline } from "./demo-timeline.js";
import { showVideo } from "./demo-video.js";
import { showAlert } from "./errors.js";
import { followCall } from "./follow-call.js";
import { explain, State, VoiceClient } from "./index.js";
import { levelMeter } from "./level-meter.js";

/** @import { StateName } from "./states.js" */
/** @import { VoiceError } from "./errors.js" */
/** @import { TransportStats } from "./voice-connection.js" */

/** @type {Record<StateName, string>} */
const STATE_TEXTS = {
  [State.DISCONNECTED]: "Not in a call",
  [State.INITIALIZING]: "Opening the microphone…",
  [State.INITIALIZED]: "Microphone is on",
  [State.AUTHENTICATING]: "Asking for a call…",
  [State.AUTHENTICATED]: "Connecting…",
  [State.CONNECTING]: "Connecting…",
  [State.CONNECTED]: "Waiting for the bot…",
  [State.READY]: "In a call",
  [State.RECONNECTING]: "Reconnecting…",
  [State.DISCONNECTING]: "Hanging up…",
  [State.ERROR]: "Not in a call",
};

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function byId(id, type) {
  const node = document.getElementById(id);
  if (!(node instanceof type)) throw new Error(`the page has no ${type.name} #${id}`);
  return node;
}

/** @type {{ connectUrl: string }} */
const config = JSON.parse(byId("voicews-config", HTMLScriptElement).textContent ?? "");

const page = {
  state: byId("state", HTMLElement),
  alert: byId("alert", HTMLElement),
  banner: byId("banner", HTMLElement),
  call: byId("call", HTMLButtonElement),
  mute: byId("mute", HTMLButtonElement),
  bots: byId("bots", HTMLFieldSetElement),
  mics: byId("mics", HTMLSelectElement),
  speakers: byId("speakers", HTMLSelectElement),
  speakerNote: byId("speaker-note", HTMLElement),
  textForm: byId("text-form", HTMLFormElement),
  text: byId("text", HTMLInputElement),
  send: byId("send", HTMLButtonElement),
  keypad: byId("keypad", HTMLElement),
  empty: byId("timeline-empty", HTMLElement),
  figures: byId("figures", HTMLElement),
};

const timeline = new Timeline(byId("timeline", HTMLElement));
const client = new VoiceClient();
const localMeter = levelMeter(byId("local-level", HTMLElement));
const remoteMeter = levelMeter(byId("remote-level", HTMLElement));

showVideo(client, {
  buttons: byId("video-buttons", HTMLElement),
  camera: byId("camera", HTMLButtonElement),
  screen: byId("screen", HTMLButtonElement),
  picture: byId("picture", HTMLCanvasElement),
}, showError);

let startedAt = 0;

/** @param {string} text */
function showError(text) {
  page.alert.textContent = text;
  page.alert.hidden = text === "";
}

/** @param {string} text */
function showBanner(text) {
  page.banner.textContent = text;
  page.banner.hidden = text === "";
}

/** @param {StateName} state */
function showState(state) {
  const idle = client.isIdle;
  const ready = state === State.READY;
  page.state.textContent = STATE_TEXTS[state];
  page.state.dataset.state = state;
  page.call.textContent = idle ? "Start call" : "Hang up";
  page.call.dataset.running = String(!idle);
  page.bots.disabled = !idle;
  page.mute.disabled = idle;
  page.text.disabled = page.send.disabled = !ready;
  for (const key of page.keypad.querySelectorAll("button")) key.disabled = !ready;
  if (!ready) remoteMeter(0);
  if (idle) localMeter(0);
  if (state !== State.RECONNECTING && state !== State.CONNECTED) showBanner("");
}

/** @param {boolean} enabled */
function showMic(enabled) {
  page.mute.textContent = enabled ? "Mute" : "Unmute";
  page.mute.dataset.muted = String(!enabled);
  if (!enabled) localMeter(0);
}

/** @param {TransportStats} stats */
function showFigures(stats) {
  /** @type {Record<string, string>} */
  const texts = {
    rtt: stats.rttMs === null ? "–" : `${stats.rttMs.toFixed(0)} ms`,
    mouthToEar: stats.mouthToEarMs === null ? "–" : `${stats.mouthToEarMs.toFixed(0)} ms`,
    buffered: `${stats.bufferedMs.toFixed(0)} ms`,
    gaps: `${stats.underruns} (${stats.concealedMs.toFixed(0)} ms)`,
    dropped: `${stats.droppedMicMs.toFixed(0)} ms`,
    frames: `${stats.framesOut} / ${stats.framesIn}`,
  };
  for (const [name, text] of Object.entries(texts)) {
    const figure = page.figures.querySelector(`[data-figure="${name}"]`);
    if (figure) figure.textContent = text;
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {MediaDeviceInfo[]} devices
 * @param {string} kind
 */
function fillDevices(select, devices, kind) {
  const chosen = select.value;
  const options = devices
    .filter(({ deviceId }) => deviceId !== "default")
    .map(({ deviceId, label }, i) => new Option(label || `${kind} ${i + 1}`, deviceId));
  select.replaceChildren(new Option(`Default ${kind.toLowerCase()}`, ""), ...options);
  // A device that is gone leaves the default one.
  select.value = options.some(({ value }) => value === chosen) ? chosen : "";
}

async function showDevices() {
  fillDevices(page.mics, await client.getAllMics(), "Microphone");
  fillDevices(page.speakers, await client.getAllSpeakers(), "Loudspeaker");
}

async function start() {
  showError("");
  timeline.restart();
  page.empty.hidden = true;
  startedAt = performance.now();
  const bot = new FormData(byId("call-form", HTMLFormElement)).get("bot");
  const label = page.bots.querySelector(":has(> :checked) .bot-name")?.textContent ?? "the bot";
  timeline.add("call", `Calling ${label}`);
  try {
    await client.connect({ endpoint: config.connectUrl, requestData: bot ? { bot } : {} });
  } catch {
    // onError has shown it.
  }
}

/** @param {() => unknown} action */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    showError(explain(/** @type {VoiceError} */ (error)));
  }
}

client.on("onTransportStateChanged", showState);
client.on("onMicEnabled", showMic);
client.on("onStats", showFigures);
client.on("onLocalAudioLevel", (level) => localMeter(client.isMicEnabled ? level : 0));
client.on("onRemoteAudioLevel", remoteMeter);
client.on("onDevicesChanged", showDevices);
client.on("onTransportStateChanged", (state) => {
  if (state === State.INITIALIZED) void showDevices();
});

client.on("onBotReady", () => {
  const ms = performance.now() - startedAt;
  timeline.add("call", `Connected after ${(ms / 1000).toFixed(1)} s`);
});
client.on("onReconnecting", ({ attempt: round, error }) => {
  showBanner(`${explain(error)} ${round === 1 ? "Trying to reconnect…" : "Still trying to reconnect…"}`);
});
client.on("onDisconnected", () => showFigures(client.stats));
client.on("onError", (error) => {
  showError("");
  showAlert(page.alert, error);
  page.alert.hidden = false;
});
client.on("onOperatorMessage", ({ text }) => showBanner(`Operator: ${text}`));
followCall(client, timeline);

page.call.addEventListener("click", () => {
  if (client.isIdle) void start();
  else void client.disconnect();
});
page.mute.addEventListener("click", () => {
  void attempt(() => client.enableMic(!client.isMicEnabled));
});
page.mics.addEventListener("change", () => {
  void attempt(() => client.updateMic(page.mics.value));
});
page.speakers.addEventListener("change", () => {
  void attempt(() => client.updateSpeaker(page.speakers.value));
});
page.textForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = page.text.value.trim();
  if (!text) return;
  void attempt(() => {
    client.sendText(text);
    timeline.add("you", `wrote “${text}”`);
    page.text.value = "";
  });
});
page.keypad.addEventListener("click", ({ target }) => {
  const key = target instanceof Element ? target.closest("button")?.value : "";
  if (!key) return;
  void attempt(() => {
    client.sendDTMF(key);
    timeline.add("you", `pressed ${key}`);
  });
});

if (typeof AudioContext === "undefined" || !("setSinkId" in AudioContext.prototype)) {
  page.speakers.disabled = true;
  page.speakerNote.hidden = false;
}
// For the browser's console: voiceClient.stats, voiceClient.remoteStream.
Object.assign(globalThis, { voiceClient: client });
page.call.disabled = false;
showState(client.state);
void showDevices();
