/**
 * Pipecat's client and its React hooks on our transport, set up as the reference's "Basic Setup" does it.
 * The tests drive it through `window.call`.
 */

import { PipecatClient } from "@pipecat-ai/client-js";
import {
  PipecatClientAudio,
  PipecatClientMicToggle,
  PipecatClientProvider,
  usePipecatClientMediaDevices,
  usePipecatClientTransportState,
  usePipecatConversation,
} from "@pipecat-ai/client-react";
import { createRoot } from "react-dom/client";
import { ProtobufFrameSerializer, WebSocketTransport } from "voicews";

const FFT_SIZE = 8192;
const LISTEN_MS = 50;
const RECORDED = [
  "onTransportStateChanged", "onConnected", "onDisconnected", "onBotStarted", "onBotConnected",
  "onBotDisconnected", "onBotReady", "onParticipantJoined", "onParticipantLeft", "onError",
  "onMessageError", "onServerMessage", "onDeviceError", "onMediaStateChanged", "onMicUpdated",
  "onAvailableMicsUpdated", "onAvailableSpeakersUpdated", "onTrackStarted", "onTrackStopped",
  "onUserStartedSpeaking", "onBotStartedSpeaking", "onBotOutput", "onUnsupportedFeature",
];

class Call {
  events = [];
  levels = { local: 0, remote: 0 };
  /** The strongest frequency that was played, and its level in dB. */
  loudest = { hz: 0, decibels: -Infinity };

  constructor(options) {
    const record = (name) => (...args) => this.events.push({ name, args: readable(args) });
    this.transport = new WebSocketTransport({
      serializer: new ProtobufFrameSerializer(),
      recorderSampleRate: 8000,
      playerSampleRate: 8000,
    });
    this.client = new PipecatClient({
      transport: this.transport,
      enableCam: false,
      enableMic: true,
      callbacks: {
        ...Object.fromEntries(RECORDED.map((name) => [name, record(name)])),
        onLocalAudioLevel: (level) => {
          this.levels.local = Math.max(this.levels.local, level);
        },
        onRemoteAudioLevel: (level, participant) => {
          if (participant.local) throw new Error("the bot is not local");
          this.levels.remote = Math.max(this.levels.remote, level);
        },
      },
      ...options,
    });
  }

  /** Resolves with the data of bot-ready. */
  async connect(endpoint, requestData) {
    const ready = await this.client.startBotAndConnect({ endpoint, requestData });
    this.#listen();
    return ready;
  }

  named(name) {
    return this.events.filter((event) => event.name === name).map(({ args }) => args[0]);
  }

  forget() {
    this.loudest = { hz: 0, decibels: -Infinity };
    this.levels = { local: 0, remote: 0 };
  }

  #listen() {
    const { context, playbackNode } = this.transport.media.audio;
    const analyser = new AnalyserNode(context, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
    playbackNode.connect(analyser);
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    setInterval(() => {
      analyser.getFloatFrequencyData(spectrum);
      const decibels = Math.max(...spectrum);
      if (decibels > this.loudest.decibels) {
        this.loudest = { hz: (spectrum.indexOf(decibels) * context.sampleRate) / FFT_SIZE, decibels };
      }
    }, LISTEN_MS);
  }
}

/** What a test can read of an event's arguments. */
function readable(args) {
  return JSON.parse(JSON.stringify(args, (_name, value) => {
    if (value instanceof MediaStreamTrack) return value.kind;
    if (value instanceof Error) return { ...value, message: value.message };
    return value;
  }));
}

function Conversation() {
  const state = usePipecatClientTransportState();
  const { messages } = usePipecatConversation();
  const { availableMics, selectedMic } = usePipecatClientMediaDevices();
  return (
    <main>
      <p id="state">{state}</p>
      <p id="mics">{availableMics.length} {selectedMic?.deviceId}</p>
      <PipecatClientMicToggle>
        {({ isMicEnabled, onClick }) => (
          <button id="mic" onClick={onClick}>{isMicEnabled ? "on" : "off"}</button>
        )}
      </PipecatClientMicToggle>
      <ol id="messages">
        {messages.map((message, i) => (
          <li key={i} data-role={message.role}>
            {message.parts.map(({ text }, j) => (
              <span key={j} data-unspoken={text?.unspoken ?? ""}>{text?.spoken ?? text}</span>
            ))}
          </li>
        ))}
      </ol>
    </main>
  );
}

window.start = (options) => {
  window.call = new Call(options);
  createRoot(document.getElementById("root")).render(
    <PipecatClientProvider client={window.call.client}>
      <Conversation />
      <PipecatClientAudio />
    </PipecatClientProvider>,
  );
};
