/**
 * Pipecat's browser client as an application uses it, with a record of all that crosses its serializer.
 * The tests drive it through `window.call`.
 */

import { PipecatClient } from "@pipecat-ai/client-js";
import {
  ProtobufFrameSerializer,
  WavMediaManager,
  WebSocketTransport,
} from "@pipecat-ai/websocket-transport";

const MICROPHONE_CHUNK_BYTES = 512;
const MICROPHONE_SAMPLE_RATE = 16000;

/** The client's own serializer; keeps each received message as base64 and counts what was sent. */
class RecordingSerializer extends ProtobufFrameSerializer {
  received = [];
  sentAudioMessages = 0;

  serializeAudio(data, sampleRate, numChannels) {
    this.sentAudioMessages += 1;
    return super.serializeAudio(data, sampleRate, numChannels);
  }

  async deserialize(data) {
    const bytes = new Uint8Array(await data.arrayBuffer());
    this.received.push({
      atMs: performance.now(),
      payload: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")),
    });
    return super.deserialize(data);
  }
}

class Call {
  events = [];
  #serializer = new RecordingSerializer();
  #client;

  constructor({ enableMic = true } = {}) {
    const record = (name) => (data) => this.events.push({ name, data: data ?? null });
    this.#client = new PipecatClient({
      transport: new WebSocketTransport({
        serializer: this.#serializer,
        mediaManager: new WavMediaManager(MICROPHONE_CHUNK_BYTES, MICROPHONE_SAMPLE_RATE),
        recorderSampleRate: MICROPHONE_SAMPLE_RATE,
      }),
      enableMic,
      enableCam: false,
      callbacks: {
        onTransportStateChanged: record("state"),
        onBotReady: record("bot-ready"),
        onDisconnected: record("disconnected"),
        onServerMessage: record("server-message"),
        onMessageError: record("message-error"),
        onError: record("error"),
        onBotStartedSpeaking: record("bot-started-speaking"),
        onUserStartedSpeaking: record("user-started-speaking"),
      },
    });
  }

  /** Resolves with the data of bot-ready. */
  connect(endpoint, requestData) {
    return this.#client.startBotAndConnect({ endpoint, requestData });
  }

  request(type, data) {
    return this.#client.sendClientRequest(type, data);
  }

  sendText(content) {
    return this.#client.sendText(content);
  }

  disconnect() {
    return this.#client.disconnect();
  }

  get state() {
    return this.#client.state;
  }

  /** Everything received until now: `[{atMs, payload}]`, payload being base64. */
  get received() {
    return this.#serializer.received;
  }

  get sentAudioMessages() {
    return this.#serializer.sentAudioMessages;
  }
}

window.Call = Call;
