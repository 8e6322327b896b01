/**
 * Records two inputs sample by sample on one clock: what the page plays, and what its microphone hears.
 */

const CHUNK_SAMPLES = 2400;

class Recorder extends AudioWorkletProcessor {
  #chunk = this.#newChunk();
  #filled = 0;

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const [played, spoken] = inputs.map((channels) => channels[0] ?? new Float32Array(128));
    for (let i = 0; i < 128; i++) {
      this.#chunk.played[this.#filled] = 32767 * Math.max(-1, Math.min(1, played[i]));
      this.#chunk.spoken[this.#filled] = 32767 * Math.max(-1, Math.min(1, spoken[i]));
      this.#filled += 1;
      if (this.#filled === CHUNK_SAMPLES) this.#finish(currentFrame + i + 1);
    }
    return true;
  }

  #newChunk() {
    return { played: new Int16Array(CHUNK_SAMPLES), spoken: new Int16Array(CHUNK_SAMPLES) };
  }

  /** @param {number} endFrame */
  #finish(endFrame) {
    this.port.postMessage({ ...this.#chunk, startFrame: endFrame - CHUNK_SAMPLES });
    this.#chunk = this.#newChunk();
    this.#filled = 0;
  }
}

registerProcessor("voicews-test-recorder", Recorder);
