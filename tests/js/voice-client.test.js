import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { VoiceError } from "../../voicews/static/voicews/errors.js";
import { fakeCall, FakeWebSocket } from "./fake-call.js";
import { FakeClock, settle } from "./fake-clock.js";

const PARAMS = { ws_url: "ws://host/ws/voice/1/", token: "first" };

/** @type {FakeClock} */
let clock;
const realFetch = globalThis.fetch;
beforeEach(() => {
  clock = new FakeClock().install();
  const listeners = { addEventListener() {}, removeEventListener() {} };
  Object.assign(globalThis, listeners);
});
afterEach(() => {
  clock.uninstall();
  globalThis.fetch = realFetch;
});

/** @param {Parameters<typeof fakeCall>} args */
async function readyCall(...args) {
  const call = fakeCall(...args);
  const connected = call.client.connect(PARAMS);
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

test("a call from connect to disconnect", async () => {
  const call = fakeCall();
  const connected = call.client.connect(PARAMS);
  await settle();
  const { socket } = call;
  assert.equal(socket.url, "ws://host/ws/voice/1/?token=first&client=voicews");
  assert.equal(socket.binaryType, "arraybuffer");
  socket.accept();
  const [ready] = socket.messages;
  assert.equal(ready.type, "client-ready");
  assert.equal(ready.data.about.library, "voicews");
  socket.botReady();
  const data = await connected;
  assert.equal(data.voicews?.session, "s");
  await call.client.disconnect();
  assert.deepEqual(call.states, [
    "initializing", "initialized", "connecting", "connected", "ready", "disconnecting",
    "disconnected",
  ]);
  assert.equal(socket.closedBy?.code, 1000);
  assert.equal(call.audio.closed, true);
  assert.deepEqual(call.named("onDisconnected"), [
    ["onDisconnected", { code: null, reason: "", error: null }],
  ]);
  assert.equal(clock.pending, 0);
});

test("the connect endpoint is asked first, and what it says is told", async () => {
  /** @type {any[]} */
  const requests = [];
  globalThis.fetch = async (url, init) => {
    requests.push([url, init]);
    return Response.json({ ws_url: "ws://other/ws/", token: "t" });
  };
  const call = fakeCall();
  const connected = call.client.connect({
    endpoint: "/voice/connect/", requestData: { bot: "echo" }, headers: { "X-Test": "1" },
  });
  await clock.advance(1);
  call.socket.accept();
  call.socket.botReady();
  await connected;
  assert.equal(call.states[2], "authenticating");
  assert.equal(call.socket.url, "ws://other/ws/?token=t&client=voicews");
  assert.equal(requests[0][0], "/voice/connect/");
  assert.equal(requests[0][1].body, '{"bot":"echo"}');
  assert.equal(requests[0][1].headers.get("X-Test"), "1");
  assert.equal(requests[0][1].headers.get("Content-Type"), "application/json");

  for (const [response, code, message] of /** @type {const} */ ([
    [Response.json({ info: "Full up." }, { status: 503 }), "connect-refused", "Full up."],
    [new Response("<h1>", { status: 403 }), "connect-refused", "You are not allowed to start a call."],
    [Response.json({}), "connect-refused", "The server's answer holds no ws_url."],
  ])) {
    globalThis.fetch = async () => response;
    const { client } = fakeCall();
    await assert.rejects(client.connect({ endpoint: "/voice/connect/" }), (error) => {
      assert(failsWith(code)(error));
      assert.equal(/** @type {VoiceError} */ (error).message, message);
      return true;
    });
    assert.equal(client.state, "error");
  }
  globalThis.fetch = async () => Promise.reject(new TypeError("network"));
  await assert.rejects(fakeCall().client.connect({ endpoint: "/" }), failsWith("connect-failed"));
});

test("a socket that closes before the bot is ready rejects connect, and is not tried again", async () => {
  for (const [code, expected] of /** @type {const} */ ([
    [1006, "connect-failed"], [1008, "not-allowed"], [1013, "busy"], [1000, "connect-failed"],
  ])) {
    const call = fakeCall();
    const connected = call.client.connect(PARAMS);
    await settle();
    call.socket.accept();
    call.socket.drop(code, "why");
    await assert.rejects(connected, (error) => {
      assert(failsWith(expected)(error));
      const { reason, closeCode } = /** @type {VoiceError} */ (error);
      assert.deepEqual([reason, closeCode], ["why", code]);
      return true;
    });
    await clock.advance(60_000);
    assert.equal(FakeWebSocket.all.length, 1);
    assert.equal(call.client.state, "error");
    assert.equal(call.audio.closed, true);
    assert.equal(call.named("onError").length, 1);
    assert.equal(call.named("onDisconnected").length, 1);
  }
});

test("a bot that never answers is a timeout after 20 seconds", async () => {
  const call = fakeCall();
  const connected = call.client.connect(PARAMS);
  connected.catch(() => {});
  await settle();
  call.socket.accept();
  await clock.advance(19_900);
  assert.equal(call.client.state, "connected");
  await clock.advance(200);
  await assert.rejects(connected, failsWith("timeout"));
  assert.equal(call.socket.closedBy?.code, 1000);
});

test("a microphone that can't be opened rejects connect with the reason", async () => {
  const denied = new VoiceError("microphone-denied", "no");
  const { client } = fakeCall({}, {}, denied);
  await assert.rejects(client.connect(PARAMS), (error) => error === denied);
  assert.equal(client.state, "error");
  assert.equal(FakeWebSocket.all.length, 0);
});

test("hanging up while connecting cancels it", async () => {
  const call = fakeCall();
  const connected = call.client.connect(PARAMS);
  await settle();
  await call.client.disconnect();
  await assert.rejects(connected, failsWith("cancelled"));
  assert.equal(call.client.state, "disconnected");
  assert.equal(call.named("onError").length, 0);
  call.socket.accept();
  assert.equal(call.client.state, "disconnected");
});

test("one client has one call at a time, and may have another one afterwards", async () => {
  const call = await readyCall();
  await assert.rejects(call.client.connect(PARAMS), failsWith("illegal-state"));
  assert.equal(call.client.state, "ready");
  await call.client.disconnect();
  const again = call.client.connect(PARAMS);
  await settle();
  call.socket.accept();
  call.socket.botReady();
  await again;
  assert.equal(FakeWebSocket.all.length, 2);
  assert.equal(call.client.state, "ready");
});

test("a lost connection is resumed with the newest token, at the second try", async () => {
  const call = await readyCall();
  call.socket.drop(1006);
  assert.equal(call.client.state, "reconnecting");
  assert.equal(call.named("onReconnecting")[0][1].attempt, 1);
  await clock.advance(999);
  assert.equal(FakeWebSocket.all.length, 1);
  await clock.advance(1);
  assert.equal(call.socket.url, "ws://host/ws/voice/1/?token=resume-1&client=voicews");
  call.socket.drop(1006);
  await clock.advance(4000);
  assert.equal(FakeWebSocket.all.length, 3);
  call.socket.accept();
  call.socket.botReady("resume-2");
  assert.equal(call.client.state, "ready");
  assert.equal(call.named("onReconnected").length, 1);
  assert.equal(call.named("onBotReady").length, 1);
  await clock.advance(4000);
  const [pong] = call.socket.messages.filter(({ type }) => type === "ping").slice(-1);
  call.socket.message({ label: "voicews", type: "pong", id: pong.id, data: {} });
  assert.equal(call.audio.closed, false);
});

test("after two tries the call ends with an error", async () => {
  const call = await readyCall();
  call.socket.drop(1012, "restarting");
  await clock.advance(1000);
  call.socket.drop(1006);
  await clock.advance(4000);
  call.socket.drop(1006);
  assert.equal(call.client.state, "disconnected");
  const [, { error }] = call.named("onDisconnected")[0];
  assert.equal(error.code, "connection-lost");
  assert.match(error.message, /Reconnecting failed/);
  await clock.advance(60_000);
  assert.equal(FakeWebSocket.all.length, 3);
  assert.equal(clock.pending, 0);
});

test("with the grace that the server tells, tries go on until it is over, in two rounds", async () => {
  const call = await readyCall();
  call.socket.drop(1012, "restarting");
  await clock.advance(1000);
  call.socket.accept();
  call.socket.botReady("resume-2", 20);
  await clock.advance(3000);
  const before = FakeWebSocket.all.length;
  /** @type {number[]} */
  const triedAt = [];
  call.socket.drop(1006);
  for (let ms = 100; ms <= 30_000; ms += 100) {
    const count = FakeWebSocket.all.length;
    await clock.advance(100);
    if (FakeWebSocket.all.length > count) {
      triedAt.push(ms);
      assert.equal(call.client.state, "reconnecting");
      call.socket.drop(1006);
    }
  }
  assert.equal(triedAt.length, FakeWebSocket.all.length - before);
  assert(triedAt.filter((ms) => ms <= 5000).length >= 4, "few tries for a short fault");
  const gaps = triedAt.map((ms, i) => ms - (triedAt[i - 1] ?? 0));
  assert(Math.max(...gaps) <= 2600, `a server that is back waits: ${triedAt}`);
  assert(Math.max(...triedAt) > 19_000 && Math.max(...triedAt) < 20_000, `${triedAt}`);
  const rounds = call.named("onReconnecting").map(([, { attempt }]) => attempt);
  assert.deepEqual(rounds, [1, 1, 2]);
  assert.equal(call.client.state, "disconnected");
  assert.match(call.named("onDisconnected")[0][1].error.message, /Reconnecting failed/);
  assert.equal(clock.pending, 0);
});

test("a server that keeps no call without its client is not asked again", async () => {
  const call = fakeCall();
  const connected = call.client.connect(PARAMS);
  await settle();
  call.socket.accept();
  call.socket.botReady("resume", 0);
  await connected;
  call.socket.drop(1006);
  assert.equal(call.client.state, "disconnected");
  assert.equal(clock.pending, 0);
});

test("bot output reads the same, whichever version of RTVI it comes in", async () => {
  const call = await readyCall();
  const progress = { accumulated_text: "Hello", remaining_text: " there." };
  for (const data of [
    { text: "Hello there.", spoken: true, aggregated_by: "sentence" },
    {
      text: "Hello there.", output_type: "sentence", segment_id: 7, will_be_spoken: true,
      spoken_status: "in-progress", spoken_progress: progress,
    },
    { text: "print(1)", output_type: "code", segment_id: 8, will_be_spoken: false },
  ]) call.socket.message({ label: "rtvi-ai", type: "bot-output", data });
  const [first, second, third] = call.named("onBotOutput").map(([, data]) => data);
  for (const data of [first, second]) {
    assert.equal(data.text, "Hello there.");
    assert.deepEqual([data.output_type, data.aggregated_by], ["sentence", "sentence"]);
    assert.deepEqual([data.will_be_spoken, data.spoken], [true, true]);
  }
  assert.deepEqual([second.segment_id, second.spoken_status], [7, "in-progress"]);
  assert.deepEqual(second.spoken_progress, progress);
  assert.deepEqual([third.output_type, third.spoken], ["code", false]);
});

test("an operator's message is told as what it is, and as a server message", async () => {
  const call = await readyCall();
  /** @type {string[]} */
  const texts = [];
  call.client.on("onOperatorMessage", ({ text }) => texts.push(text));
  for (const data of [{ type: "operator-message", text: "Hold on." }, { button: "5" }, null]) {
    call.socket.message({ label: "rtvi-ai", type: "server-message", data });
  }
  assert.deepEqual(texts, ["Hold on."]);
  assert.equal(call.named("onServerMessage").length, 3);
});

test("a try that opens but gets no answer is given up after ten seconds", async () => {
  const call = await readyCall();
  call.socket.drop(1006);
  await clock.advance(1000);
  call.socket.accept();
  await clock.advance(10_000);
  assert.equal(call.client.state, "reconnecting");
  assert.equal(call.socket.closedBy?.code, 3000);
});

test("a server that accepts and drops at once is not asked for ever", async () => {
  const call = await readyCall();
  for (let round = 0; round < 2; round++) {
    call.socket.drop(1011);
    await clock.advance(4000);
    call.socket.accept();
    call.socket.botReady();
  }
  call.socket.drop(1011);
  assert.equal(call.client.state, "disconnected");
});

test("after a good while the tries start again", async () => {
  const call = await readyCall({}, { reconnect: { delaysMs: [1000], jitter: 0 } });
  for (let round = 0; round < 3; round++) {
    call.socket.drop(1006);
    await clock.advance(1000);
    call.socket.accept();
    call.socket.botReady(null);
    await clock.advance(12_000);
  }
  assert.equal(call.client.state, "ready");
  assert.equal(FakeWebSocket.all.length, 4);
});

test("some codes are final", async () => {
  for (const [code, expected] of /** @type {const} */ ([
    [1008, "not-allowed"], [4000, "session-timeout"], [4001, "replaced"],
    [4002, "ended-by-operator"],
  ])) {
    const call = await readyCall();
    call.socket.drop(code, "because");
    assert.equal(call.client.state, "error");
    const [, { error, reason }] = call.named("onDisconnected")[0];
    assert.equal(error.code, expected);
    assert.equal(error.fatal, true);
    assert.equal(reason, "because");
    assert.equal(clock.pending, 0);
  }
  const call = await readyCall();
  call.socket.drop(1000, "bot ended");
  assert.equal(call.client.state, "disconnected");
  assert.deepEqual(call.named("onDisconnected")[0][1], {
    code: 1000, reason: "bot ended", error: null,
  });
});

test("reconnecting can be switched off", async () => {
  const call = await readyCall({}, { reconnect: { delaysMs: [] } });
  call.socket.drop(1006);
  assert.equal(call.client.state, "disconnected");
});

test("silence of a server that answers pings is a lost connection", async () => {
  const call = await readyCall();
  const { socket } = call;
  await clock.advance(5500);
  assert.equal(call.client.state, "reconnecting");
  assert.equal(socket.closedBy?.code, 3000);
  socket.drop(1006);
  assert.equal(call.named("onReconnecting").length, 1);
});

test("a server without the extension is never sent it", async () => {
  const call = fakeCall();
  const connected = call.client.connect(PARAMS);
  await settle();
  call.socket.accept();
  call.socket.botReady(null);
  await connected;
  call.audio.options.onPlayback({ state: "playing", pts: 1, bufferedMs: 1, level: 0 });
  await clock.advance(60_000);
  assert.equal(call.client.state, "ready");
  assert.deepEqual(call.socket.messages.map(({ type }) => type), ["client-ready"]);
  assert.equal(call.client.stats.rttMs, null);
});

test("the round trip and the playback position are exchanged with a voicews server", async () => {
  const call = await readyCall();
  const ping = call.socket.messages.find(({ type }) => type === "ping");
  await clock.advance(30);
  call.socket.message({ label: "voicews", type: "pong", id: ping.id, data: {} });
  assert.equal(call.client.stats.rttMs, 30);
  assert.equal(call.client.stats.mouthToEarMs, 50);
  call.audio.options.onPlayback({ state: "playing", pts: 7e9, bufferedMs: 60.4, level: 0 });
  const report = call.socket.messages.find(({ type }) => type === "playback");
  assert.deepEqual(report, {
    label: "voicews", type: "playback", data: { pts: 7e9, state: "playing", buffered_ms: 60 },
  });
});

test("microphone audio waits for the bot, at most half a second of it", async () => {
  const call = fakeCall();
  const connected = call.client.connect(PARAMS);
  await settle();
  for (let i = 0; i < 20; i++) call.audio.mic(i);
  call.socket.accept();
  for (let i = 20; i < 40; i++) call.audio.mic(i);
  assert.equal(call.socket.audio.length, 0);
  call.socket.botReady();
  await connected;
  const marks = call.socket.audio.map((frame) => new Int16Array(frame.audio.slice().buffer)[0]);
  assert.deepEqual(marks, Array.from({ length: 25 }, (_, i) => 15 + i));
  assert.equal(call.client.stats.droppedMicMs, 300);
  assert.equal(call.socket.audio[0].sampleRate, 16000);
  assert.equal(call.socket.audio[0].name, "audio");
});

test("a slow network costs the oldest microphone audio, not a growing delay", async () => {
  const call = await readyCall();
  call.socket.bufferedAmount = 100_000;
  for (let i = 0; i < 100; i++) call.audio.mic(i);
  assert.equal(call.socket.audio.length, 0);
  assert.equal(call.client.stats.droppedMicMs, 1760);
  call.socket.bufferedAmount = 0;
  call.audio.mic(100);
  const marks = call.socket.audio.map((frame) => new Int16Array(frame.audio.slice().buffer)[0]);
  assert.deepEqual(marks, Array.from({ length: 13 }, (_, i) => 88 + i));
});

test("audio of the page's own is sent unless muted", async () => {
  const call = await readyCall();
  call.audio.options.sendAudio(Int16Array.from([1, 2, 3]));
  assert.equal(call.socket.audio.length, 1);
  await call.client.enableMic(false);
  assert.equal(call.client.isMicEnabled, false);
  call.audio.options.sendAudio(Int16Array.from([1, 2, 3]));
  assert.equal(call.socket.audio.length, 1);
});

test("frames that can't be played are dropped and counted", async () => {
  const call = await readyCall();
  const good = { sampleRate: 24000, numChannels: 1 };
  for (const [audio, format] of /** @type {const} */ ([
    [new Uint8Array(3), good], [new Uint8Array(0), good],
    [new Uint8Array(4), { ...good, sampleRate: 0 }], [new Uint8Array(4), { ...good, numChannels: 0 }],
    [new Uint8Array(2), { ...good, numChannels: 2 }],
  ])) {
    call.socket.frame({ type: "audio", audio, ...format });
  }
  call.socket.onmessage({ data: new Uint8Array([0x22, 5, 1]).buffer });
  call.socket.onmessage({ data: "text" });
  call.socket.frame({ type: "message", data: "{" });
  call.socket.frame({ type: "message", data: "[1]" });
  assert.equal(call.audio.played.length, 0);
  assert.equal(call.client.stats.badFrames, 9);
  assert.equal(call.client.state, "ready");
  call.socket.frame({ type: "audio", audio: new Uint8Array(4), ...good, pts: 5 });
  assert.equal(call.audio.played[0].pts, 5);
});

test("an interruption empties the player", async () => {
  const call = await readyCall();
  call.socket.frame({ type: "interruption" });
  assert.equal(call.audio.flushes, 1);
  assert.equal(call.named("onInterruption").length, 1);
});

test("what has a destination is played and cut off beside all else", async () => {
  const call = await readyCall();
  const audio = { audio: new Uint8Array(4), sampleRate: 24000, numChannels: 1 };
  call.socket.frame({ type: "audio", ...audio, destination: "music" });
  call.socket.frame({ type: "audio", ...audio });
  assert.deepEqual(call.audio.played.map(({ destination }) => destination), ["music", undefined]);
  call.socket.frame({ type: "interruption", destination: "music" });
  assert.deepEqual(call.audio.flushed, ["music"]);
  // The bot's own words go on.
  assert.equal(call.named("onInterruption").length, 0);
});

test("messages reach their events, strangers reach onMessage", async () => {
  const call = await readyCall();
  const rtvi = { label: "rtvi-ai" };
  const transcript = { text: "hi", user_id: "u", timestamp: "", final: true };
  call.socket.message({ ...rtvi, type: "user-transcription", data: transcript });
  call.socket.message({ ...rtvi, type: "server-message", data: { a: 1 } });
  call.socket.message({ ...rtvi, type: "bot-stopped-speaking" });
  call.socket.message({ ...rtvi, type: "constructor" });
  call.socket.message({ label: "mine", type: "user-transcription", data: 1 });
  call.socket.frame({ type: "transcription", text: "t", userId: "u", timestamp: "now" });
  assert.deepEqual(call.named("onUserTranscript"), [
    ["onUserTranscript", transcript],
    ["onUserTranscript", { text: "t", user_id: "u", timestamp: "now", final: true }],
  ]);
  assert.deepEqual(call.named("onServerMessage"), [["onServerMessage", { a: 1 }]]);
  assert.equal(call.named("onBotStoppedSpeaking").length, 1);
  assert.equal(call.audio.ended, 1);
  assert.deepEqual(call.named("onMessage").map(([, { type }]) => type), [
    "constructor", "user-transcription",
  ]);
});

test("requests end with their answer, a refusal, a timeout or the connection", async () => {
  const call = await readyCall();
  const sent = () => call.socket.messages.filter(({ type }) => type === "client-message");
  const rtvi = { label: "rtvi-ai" };

  const answered = call.client.sendClientRequest("echo", { hello: 1 });
  assert.deepEqual(sent()[0].data, { t: "echo", d: { hello: 1 } });
  const data = { t: "echo", d: { hello: 2 } };
  call.socket.message({ ...rtvi, type: "server-response", id: sent()[0].id, data });
  assert.deepEqual(await answered, { hello: 2 });

  const refused = call.client.sendClientRequest("fail");
  const error = { error: "asked to fail" };
  call.socket.message({ ...rtvi, type: "error-response", id: sent()[1].id, data: error });
  await assert.rejects(refused, (e) => {
    assert.equal(/** @type {VoiceError} */ (e).reason, "asked to fail");
    return failsWith("request-failed")(e);
  });

  const late = call.client.sendClientRequest("late", {}, 500);
  late.catch(() => {});
  await clock.advance(500);
  await assert.rejects(late, failsWith("request-timeout"));

  const lost = call.client.sendClientRequest("lost");
  call.socket.drop(1006);
  await assert.rejects(lost, failsWith("connection-lost"));
  await assert.rejects(call.client.sendClientRequest("none"), failsWith("illegal-state"));
  assert.equal(call.named("onError").length, 0);
});

test("a refusal that nobody waits for, and errors of the bot, are told", async () => {
  const call = await readyCall();
  const rtvi = { label: "rtvi-ai" };
  call.socket.message({ ...rtvi, type: "error-response", id: "x", data: { error: "Unsupported" } });
  call.socket.message({ ...rtvi, type: "error", data: { error: "boom", fatal: false } });
  assert.deepEqual(call.named("onError").map(([, e]) => [e.reason, e.fatal]), [
    ["Unsupported", false], ["boom", false],
  ]);
  call.socket.message({ ...rtvi, type: "error", data: { error: "dead", fatal: true } });
  assert.equal(call.client.state, "error");
  assert.equal(call.named("onDisconnected")[0][1].error.code, "bot-error");
  assert.equal(call.socket.closedBy?.code, 1000);
});

test("text, digits and the wish to end are sent as RTVI has them", async () => {
  const call = await readyCall();
  call.client.sendText("hello", { run_immediately: true });
  call.client.sendDtmf("1#d");
  call.client.disconnectBot();
  call.client.sendClientMessage("push", { b: 2 });
  assert.deepEqual(
    call.socket.messages.slice(-4).map(({ type, data }) => [type, data]),
    [
      ["send-text", { content: "hello", options: { run_immediately: true } }],
      ["dtmf", { buttons: ["1", "#", "D"] }],
      ["disconnect-bot", {}],
      ["client-message", { t: "push", d: { b: 2 } }],
    ],
  );
  assert.throws(() => call.client.sendDtmf("1x"), failsWith("invalid-argument"));
  assert.throws(() => call.client.sendDtmf(""), failsWith("invalid-argument"));
});

