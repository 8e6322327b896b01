/**
 * The microphones, cameras and loudspeakers that the browser knows, and what changes in them.
 */

/** @typedef {"audioinput" | "videoinput" | "audiooutput"} DeviceKind */

/** @type {readonly DeviceKind[]} */
const KINDS = ["audioinput", "videoinput", "audiooutput"];

/** Looks only when asked, or between `start` and `stop`. */
export class DeviceLists {
  /** @type {Record<DeviceKind, MediaDeviceInfo[]>} */
  #lists = { audioinput: [], videoinput: [], audiooutput: [] };
  #onChange;
  #listener = () => void this.refresh();
  #started = false;

  /** @param {(changed: DeviceKind[]) => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  start() {
    if (this.#started) return;
    this.#started = true;
    globalThis.navigator?.mediaDevices?.addEventListener?.("devicechange", this.#listener);
  }

  stop() {
    this.#started = false;
    globalThis.navigator?.mediaDevices?.removeEventListener?.("devicechange", this.#listener);
  }

  /**
   * As it was at the last look.
   * @param {DeviceKind} kind
   */
  list(kind) {
    return this.#lists[kind];
  }

  /**
   * @param {DeviceKind} kind
   * @param {string | undefined} deviceId
   * @returns {MediaDeviceInfo | undefined}
   */
  find(kind, deviceId) {
    return this.#lists[kind].find((device) => device.deviceId === deviceId);
  }

  /** Labels, and ids too, are empty until the user has allowed one device of the kind. */
  async refresh() {
    if (!globalThis.navigator?.mediaDevices?.enumerateDevices) return;
    const devices = await navigator.mediaDevices.enumerateDevices();
    const changed = KINDS.filter((kind) => {
      const before = this.#lists[kind];
      this.#lists[kind] = devices.filter((one) => one.kind === kind && one.deviceId !== "");
      return fingerprint(before) !== fingerprint(this.#lists[kind]);
    });
    if (changed.length > 0) this.#onChange(changed);
  }
}

/** @param {MediaDeviceInfo[]} devices */
function fingerprint(devices) {
  return JSON.stringify(devices.map(({ deviceId, label }) => [deviceId, label]));
}
