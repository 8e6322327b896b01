import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { Liveness } from "../../voicews/static/voicews/liveness.js";
import { FakeClock } from "./fake-clock.js";

/** @type {FakeClock} */
let clock;
beforeEach(() => {
  clock = new FakeClock().install();
});
afterEach(() => clock.uninstall());

test("pings once a second and measures the way there and back", async () => {
  /** @type {string[]} */
  const pings = [];
  const liveness = new Liveness({ onPing: (id) => pings.push(id), onLost: () => assert.fail("lost") });
  liveness.start();
  for (let i = 0; i < 30; i++) {
    await clock.advance(40);
    liveness.pong(pings[i]);
    await clock.advance(960);
  }
  liveness.stop();
  assert.equal(pings.length, 31);
  assert.equal(liveness.rttMs, 40);
  assert.equal(clock.pending, 0);
});

test("five seconds without a pong are a lost connection, reported once", async () => {
  let lost = 0;
  const liveness = new Liveness({ onPing: () => {}, onLost: () => lost++ });
  liveness.start();
  await clock.advance(4900);
  assert.equal(lost, 0);
  await clock.advance(20_000);
  assert.equal(lost, 1);
});

test("a page that slept waits for pongs again before it gives up", async () => {
  let lost = 0;
  const liveness = new Liveness({ onPing: () => {}, onLost: () => lost++ });
  liveness.start();
  await clock.advance(1500);
  clock.now += 60_000;
  await clock.advance(4000);
  assert.equal(lost, 0);
});

test("strangers' pongs are not counted", () => {
  const liveness = new Liveness({ onPing: () => {}, onLost: () => {} });
  liveness.start();
  liveness.pong("nobody");
  liveness.stop();
  assert.equal(liveness.rttMs, null);
});
