import assert from "node:assert/strict";
import { test } from "node:test";

import { State, StateMachine } from "../../voicews/static/voicews/states.js";

/** @import { StateName } from "../../voicews/static/voicews/states.js" */

test("a call goes through its states and back, and tells of each", () => {
  /** @type {string[]} */
  const seen = [];
  const states = new StateMachine((state, previous) => seen.push(`${previous} ${state}`));
  /** @type {StateName[]} */
  const way = [
    "initializing", "initialized", "authenticating", "authenticated", "connecting", "connected", "ready",
    "reconnecting", "connected", "ready", "disconnecting", "disconnected",
    "initializing", "disconnecting", "error", "initializing",
  ];
  for (const state of way) states.to(state);
  assert.equal(states.state, "initializing");
  assert.equal(seen.length, way.length);
  assert.equal(seen[7], "ready reconnecting");
});

test("illegal steps are refused and change nothing", () => {
  const states = new StateMachine(() => assert.fail("changed"));
  for (const state of Object.values(State)) {
    if (state === State.INITIALIZING) continue;
    assert.throws(() => states.to(state), /disconnected cannot become/);
  }
  assert.equal(states.state, "disconnected");
});
