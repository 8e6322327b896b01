/**
 * What a page of your own may add to the call button: levels, mute, and what is said.
 */

import { Timeline } from "./voicews/demo-timeline.js";
import { followCall } from "./voicews/follow-call.js";
import { levelMeter } from "./voicews/level-meter.js";

await customElements.whenDefined("voicews-call");

const { client } = document.querySelector("voicews-call");
const mute = document.getElementById("mute");
const timeline = new Timeline(document.getElementById("timeline"));
const localMeter = levelMeter(document.getElementById("local-level"));
const remoteMeter = levelMeter(document.getElementById("remote-level"));

followCall(client, timeline);
client.on("onBotReady", () => timeline.add("call", "Connected"));
client.on("onLocalAudioLevel", (level) => localMeter(client.isMicEnabled ? level : 0));
client.on("onRemoteAudioLevel", remoteMeter);
client.on("onTransportStateChanged", (state) => {
  if (state === "initializing") timeline.restart();
  mute.disabled = client.isIdle;
  if (client.isIdle) {
    localMeter(0);
    remoteMeter(0);
  }
});
client.on("onMicEnabled", (enabled) => {
  mute.textContent = enabled ? "Mute" : "Unmute";
  mute.dataset.muted = String(!enabled);
});
mute.addEventListener("click", () => void client.enableMic(!client.isMicEnabled).catch(() => {}));
