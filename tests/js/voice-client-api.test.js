/* eslint-disable no-console */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { VoiceError } from "../../voicews/static/voicews/errors.js";
import { MESSAGE_EVENTS } from "../../voicews/static/voicews/events.js";
import { LogLevel } from "../../voicews/static/voicews/log.js";
import { ProtobufFrameSerializer } from "../../voicews/static/voicews/protobuf-frame-serializer.js";
import { VERSION } from "../../voicews/static/voicews/version.js";
import { WebSocketTransport } from "../../voicews/static/voicews/websocket-transport.js";
import { fakeCall, FakeWebSocket } from "./fake-call.js";
import { FakeClock, settle } from "./fake-clock.js";

const PARAMS = { ws_url: "ws://host/ws/voice/1/", token: "t" };
const realFetch = globalThis.fetch;

/** @type {FakeClock} */
let clock;
/** @type {EventTarget} */
let page;
beforeEach(() => {
  clock = new FakeClock().install();
  page = new EventTarget();
  Object.assign(globalThis, {
    addEventListener: page.addEventListener.bind(page),
    removeEventListener: page.removeEventListener.bind(page),
  });
});
afterEach(() => {
  clock.uninstall();
  globalThis.fetch = realFetch;
});

/**
 * @param {ReturnType<typeof fakeCall>} call
 * @param {any} [params]
 */
async function ready(call, params = PARAMS) {
  const connected = call.client.connect(params);
  await settle();
  call.socket.accept();
  call.socket.botReady();
  await connected;
  return call;
}

/** @param {string} code */
function failsWith(code) {
  return (/** @type {unknown} */ error) => error instanceof VoiceError && error.code === code;
}

test("every message of the bot has the event that Pipecat's client has for it", async () => {
  const call = await ready(fakeCall());
  for (const [type, event] of Object.entries(MESSAGE_EVENTS)) {
    /** @type {any[]} */
    const seen = [];
    call.client.on(/** @type {any} */ (event), (/** @type {any} */ data) => seen.push(data));
    call.socket.message({ label: "rtvi-ai", type, data: { text: type } });
    assert.equal(seen.length, 1, event);
    assert.equal(seen[0].text, type);
  }
  assert.equal(call.named("onMessage").length, 0);
});

test("the bot comes and goes as a participant, whose level is told", async () => {
  const call = fakeCall();
  /** @type {any[]} */
  const seen = [];
  for (const name of /** @type {const} */ ([
    "onBotConnected", "onParticipantJoined", "onBotReady", "onParticipantLeft", "onBotDisconnected",
    "onDisconnected",
  ])) call.client.on(name, (/** @type {any} */ data) => seen.push([name, data?.id]));
  /** @type {any[]} */
  const levels = [];
  call.client.on("onRemoteAudioLevel", (level, who) => levels.push([level, who.id, who.local]));
  await ready(call);
  call.audio.options.onPlayback({ state: "idle", pts: null, bufferedMs: 0, level: 0.5 });
  call.socket.drop(1000, "bot ended");
  assert.deepEqual(levels, [[0.5, "bot", false]]);
  assert.deepEqual(seen, [
    ["onBotConnected", "bot"], ["onParticipantJoined", "bot"], ["onBotReady", undefined],
    ["onParticipantLeft", "bot"], ["onBotDisconnected", "bot"], ["onDisconnected", undefined],
  ]);
});

test("what is sent has the shape that RTVI gives it", async () => {
  const call = await ready(fakeCall());
  const { client } = call;
  client.sendUIEvent("opened", { page: 2 });
  client.appendToContext({ role: "user", content: "hi", run_immediately: true });
  client.cancelUIJobGroup("job", "late");
  client.sendDTMF("1#");
  assert.deepEqual(call.socket.messages.slice(-4).map(({ type, data }) => [type, data]), [
    ["ui-event", { event: "opened", payload: { page: 2 } }],
    ["append-to-context", { role: "user", content: "hi", run_immediately: true }],
    ["ui-cancel-job-group", { job_id: "job", reason: "late" }],
    ["dtmf", { buttons: ["1", "#"] }],
  ]);
});

test("a function that the page registers answers the bot's language model", async () => {
  const call = await ready(fakeCall());
  const results = () => call.socket.messages.filter(({ type }) => type === "llm-function-call-result");
  call.client.registerFunctionCallHandler("weather", async ({ functionName, arguments: args }) =>
    `${functionName} in ${args.town}`);
  call.client.registerFunctionCallHandler("silent", () => undefined);
  call.client.registerFunctionCallHandler("broken", () => {
    throw new Error("no");
  });
  const data = { function_name: "weather", tool_call_id: "c1", arguments: { town: "Rome" } };
  call.socket.message({ label: "rtvi-ai", type: "llm-function-call-in-progress", data });
  for (const name of ["silent", "broken", "unknown"]) {
    call.socket.message({
      label: "rtvi-ai", type: "llm-function-call", data: { function_name: name, tool_call_id: "c2", args: {} },
    });
  }
  await settle();
  assert.deepEqual(results().map((message) => message.data), [{ ...data, result: "weather in Rome" }]);
  assert.equal(call.named("onError")[0][1].code, "function-failed");
  call.client.unregisterFunctionCallHandler("weather");
  call.socket.message({ label: "rtvi-ai", type: "llm-function-call-in-progress", data });
  await settle();
  assert.equal(results().length, 1);
});

test("devices may be opened before the call, the bot started, and then connected to", async () => {
  globalThis.fetch = async () => Response.json({ ws_url: "ws://other/ws/", token: "t" });
  const call = fakeCall();
  /** @type {any[]} */
  const started = [];
  call.client.on("onBotStarted", (answer) => started.push(answer));
  await call.client.initDevices();
  assert.equal(call.client.state, "initialized");
  assert.equal(call.client.isIdle, true);
  const answer = await call.client.startBot({ endpoint: "/voice/connect/" });
  assert.deepEqual(answer, { ws_url: "ws://other/ws/", token: "t" });
  assert.equal(call.client.state, "authenticated");
  await ready(call, answer);
  assert.equal(call.client.connected, true);
  assert.deepEqual(call.states, [
    "initializing", "initialized", "authenticating", "authenticated", "connecting", "connected", "ready",
  ]);
  assert.deepEqual(started, [answer]);
  await call.client.disconnect();
  await call.client.initDevices();
  const { audio } = call;
  await call.client.disconnect();
  assert.equal(call.client.state, "disconnected");
  assert.equal(audio.closed, true);
});

test("connect takes every option of the transport, for this call", async () => {
  const call = fakeCall({}, { ws_url: "ws://first/", recorderSampleRate: 16_000 });
  class Marked extends ProtobufFrameSerializer {
    sent = 0;

    /** @param {any} message */
    serializeMessage(message) {
      this.sent += 1;
      return super.serializeMessage(message);
    }
  }
  const serializer = new Marked();
  await ready(call, { wsUrl: "ws://second/", token: "x", serializer, recorderSampleRate: 8000 });
  assert.equal(call.socket.url, "ws://second/?token=x&client=voicews");
  assert.equal(call.audio.options.recorderSampleRate, 8000);
  call.audio.mic(1);
  assert.equal(call.socket.audio[0].sampleRate, 8000);
  assert(serializer.sent > 0);
  await call.client.disconnect();
  await ready(call, {});
  assert.equal(call.socket.url, "ws://first/?client=voicews");
  assert.equal(call.audio.options.recorderSampleRate, 16_000);
});

test("options that are unknown or wrong are refused by name", async () => {
  for (const [options, found] of /** @type {const} */ ([
    [{ mediaManager: {} }, "mediaManager"], [{ wsUrl: 5 }, "wsUrl"], [{ recorderSampleRate: "8k" }, "recorderSampleRate"],
    [{ playerSampleRate: 5 }, "playerSampleRate"],
  ])) {
    assert.throws(() => new WebSocketTransport(/** @type {any} */ (options)), (error) =>
      failsWith("invalid-argument")(error) && String(error).includes(found));
    const call = fakeCall();
    await assert.rejects(call.client.connect({ ...PARAMS, .../** @type {any} */ (options) }), failsWith("invalid-argument"));
    assert.equal(FakeWebSocket.all.length, 0);
  }
});

test("another network is noticed: the next try comes at once, a dead connection soon", async () => {
  const call = await ready(fakeCall());
  call.socket.drop(1006);
  assert.equal(FakeWebSocket.all.length, 1);
  page.dispatchEvent(new Event("online"));
  assert.equal(FakeWebSocket.all.length, 2);
  call.socket.accept();
  call.socket.botReady();
  await clock.advance(500);
  const pings = () => call.socket.messages.filter(({ type }) => type === "ping").length;
  const before = pings();
  page.dispatchEvent(new Event("online"));
  assert.equal(pings(), before + 1);
  await clock.advance(3100);
  assert.equal(call.client.state, "reconnecting");
  await call.client.disconnect();
  page.dispatchEvent(new Event("online"));
  assert.equal(FakeWebSocket.all.length, 2);
  assert.equal(clock.pending, 0);
});

test("a page that is kept for going back to hangs up", async () => {
  const call = await ready(fakeCall());
  page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: false }));
  assert.equal(call.client.state, "ready");
  page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: true }));
  assert.equal(call.client.state, "disconnected");
});

test("the console is told what happens when a page asks for it, and never what was said", async () => {
  const call = fakeCall();
  assert.equal(call.client.version, VERSION);
  /** @type {string[]} */
  const lines = [];
  const real = { info: console.info, debug: console.debug };
  Object.assign(console, {
    info: (/** @type {any[]} */ ...parts) => lines.push(parts.join(" ")),
    debug: (/** @type {any[]} */ ...parts) => lines.push(parts.join(" ")),
  });
  try {
    call.client.setLogLevel(LogLevel.DEBUG);
    await ready(call);
    call.client.sendText("my secret");
    call.client.setLogLevel(LogLevel.NONE);
    await call.client.disconnect();
  } finally {
    Object.assign(console, real);
  }
  assert(lines.includes("[voicews] connected -> ready"));
  assert(lines.includes("[voicews] sends send-text"));
  assert(!lines.join().includes("secret"));
});

test("what the browser cannot do is told", async () => {
  const call = fakeCall();
  /** @type {string[]} */
  const features = [];
  call.client.on("onUnsupportedFeature", ({ feature }) => features.push(feature));
  await ready(call);
  await call.client.enableScreenShare(true);
  assert.deepEqual(features, ["enableScreenShare"]);
  assert.deepEqual([call.client.isCamEnabled, call.client.isSharingScreen], [false, false]);
});
