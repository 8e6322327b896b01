/**
 * Our own client on a page of a Pipecat server. The tests drive it through `window.call`.
 */

import { VoiceClient } from "/static/voicews/index.js";

const FFT_SIZE = 16384;
const LISTEN_MS = 50;

class Call {
  states = [];
  errors = [];
  /** The strongest frequency that left the player, and its level in dB. */
  loudest = { hz: 0, decibels: -Infinity };

  constructor() {
    this.client = new VoiceClient({
      callbacks: {
        onTransportStateChanged: (state) => this.states.push(state),
        onError: (error) => this.errors.push(String(error)),
        onDisconnected: ({ code, error }) => {
          this.ended = { code, error: error && String(error) };
        },
      },
    });
  }

  async connect(endpoint) {
    const ready = await this.client.connect({ endpoint });
    this.#listen();
    return ready;
  }

  #listen() {
    const { audioContext, playbackNode } = this.client;
    const analyser = new AnalyserNode(audioContext, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
    playbackNode.connect(analyser);
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    setInterval(() => {
      analyser.getFloatFrequencyData(spectrum);
      const decibels = Math.max(...spectrum);
      if (decibels > this.loudest.decibels) {
        const hz = (spectrum.indexOf(decibels) * audioContext.sampleRate) / FFT_SIZE;
        this.loudest = { hz, decibels };
      }
    }, LISTEN_MS);
  }
}

window.call = new Call();
