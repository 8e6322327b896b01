/**
 * Records every call of a VoiceClient, with its events, on the clock of the call's audio.
 */

const EVENTS = [
  "onUserStartedSpeaking",
  "onUserStoppedSpeaking",
  "onBotStartedSpeaking",
  "onBotStoppedSpeaking",
  "onInterruption",
];

/** One call: 16-bit samples of both directions, and when what happened. */
class Recording {
  events = [];
  #context;
  #node;
  #chunks = [];
  #samples = 0;
  #waiting = [];

  constructor(client) {
    this.#context = client.audioContext;
    void this.#open(client);
  }

  get seconds() {
    return this.#samples / this.#context.sampleRate;
  }

  note(name) {
    this.events.push({ name, frame: Math.round(this.#context.currentTime * this.#context.sampleRate) });
  }

  /** Resolves when so much more has been recorded. */
  async more(seconds) {
    const until = this.#samples + seconds * this.#context.sampleRate;
    await new Promise((resolve) => this.#waiting.push({ until, resolve }));
  }

  /** What was recorded, as base64 of 16-bit PCM. */
  read() {
    return {
      sampleRate: this.#context.sampleRate,
      startFrame: this.#chunks[0]?.startFrame ?? 0,
      played: this.#join("played"),
      spoken: this.#join("spoken"),
      events: this.events,
    };
  }

  async #open({ audioContext, playbackNode, localStream }) {
    try {
      await audioContext.audioWorklet.addModule("/static/voicews-tests/recorder-worklet.js");
    } catch (error) {
      // A call may end before its recorder is there.
      if (audioContext.state === "closed") return;
      throw error;
    }
    this.#node = new AudioWorkletNode(audioContext, "voicews-test-recorder", { numberOfInputs: 2 });
    this.#node.port.onmessage = ({ data }) => this.#take(data);
    playbackNode.connect(this.#node, 0, 0);
    if (localStream) audioContext.createMediaStreamSource(localStream).connect(this.#node, 0, 1);
    // Its output is silent; a node that leads nowhere would not be run.
    this.#node.connect(audioContext.destination);
  }

  #take(chunk) {
    this.#chunks.push(chunk);
    this.#samples += chunk.played.length;
    this.#waiting = this.#waiting.filter(({ until, resolve }) => {
      if (this.#samples < until) return true;
      resolve();
      return false;
    });
  }

  #join(side) {
    const bytes = new Uint8Array(2 * this.#samples);
    let at = 0;
    for (const chunk of this.#chunks) {
      bytes.set(new Uint8Array(chunk[side].buffer), at);
      at += chunk[side].byteLength;
    }
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) {
      text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    }
    return btoa(text);
  }
}

/** From now on `calls` grows by one Recording for each call. */
export function recordCalls(client) {
  const calls = [];
  client.on("onTransportStateChanged", (state) => {
    if (state === "initialized") calls.push(new Recording(client));
  });
  for (const name of EVENTS) client.on(name, () => calls.at(-1)?.note(name));
  let underruns = 0;
  client.on("onPlayback", (report) => {
    if (report.underruns > underruns) calls.at(-1)?.note("underrun");
    underruns = report.underruns;
  });
  return calls;
}
