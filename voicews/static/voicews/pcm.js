/**
 * Sample arithmetic: 16-bit PCM to floats and back, and loudness.
 */

/**
 * @param {ArrayBuffer} pcm interleaved 16-bit little-endian samples
 * @param {number} numChannels
 * @returns {Float32Array[]} one array per channel, -1 to 1
 */
export function toChannels(pcm, numChannels) {
  const view = new DataView(pcm);
  const length = Math.floor(pcm.byteLength / (2 * numChannels));
  const channels = [];
  for (let channel = 0; channel < numChannels; channel++) {
    const samples = new Float32Array(length);
    for (let i = 0; i < length; i++) {
      samples[i] = view.getInt16(2 * (i * numChannels + channel), true) / 0x8000;
    }
    channels.push(samples);
  }
  return channels;
}

/**
 * @param {number} sample nominally -1 to 1; louder is clipped
 * @returns {number} 16-bit integer
 */
export function toInt16(sample) {
  return Math.max(-0x8000, Math.min(0x7fff, Math.round(sample * 0x8000)));
}

/**
 * @param {Float32Array} samples
 * @returns {number} the sum of squares
 */
export function energy(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return sum;
}
