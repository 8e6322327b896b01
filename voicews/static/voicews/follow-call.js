/**
 * Writes what happens in a client's calls into a timeline.
 */

import { explain } from "./errors.js";
import { operatorText } from "./messages.js";

/** @import { Entry, Timeline } from "./demo-timeline.js" */
/** @import { VoiceClient } from "./voice-client.js" */

/**
 * @param {VoiceClient} client
 * @param {Timeline} timeline
 */
export function followCall(client, timeline) {
  /** @type {Entry | null} */
  let userSpeaking = null;
  /** @type {Entry | null} */
  let botSpeaking = null;
  /**
   * The transcript that is still being corrected.
   * @type {Entry | null}
   */
  let transcript = null;
  /** @type {Entry | null} */
  let outage = null;
  /** @type {Map<number, Entry>} what the bot says, by segment: RTVI 2 reports each of them several times */
  const segments = new Map();

  function endUtterances() {
    userSpeaking?.end();
    botSpeaking?.end();
    userSpeaking = botSpeaking = transcript = null;
    segments.clear();
  }

  client.on("onReconnecting", ({ error }) => {
    endUtterances();
    outage ??= timeline.begin("problem", `${explain(error)} Trying to reconnect…`, explain(error));
  });
  client.on("onReconnected", () => {
    outage?.end();
    outage = null;
    timeline.add("call", "Reconnected");
  });
  client.on("onDisconnected", ({ reason, error }) => {
    endUtterances();
    outage?.end();
    outage = null;
    if (!error) timeline.add("call", reason ? `Call ended (${reason})` : "Call ended");
  });
  client.on("onError", (error) => timeline.add("problem", explain(error)));

  client.on("onUserStartedSpeaking", () => {
    userSpeaking?.end();
    userSpeaking = timeline.begin("you", "speaking…", "spoke");
  });
  client.on("onUserStoppedSpeaking", () => {
    userSpeaking?.end();
    userSpeaking = null;
  });
  client.on("onBotStartedSpeaking", () => {
    botSpeaking?.end();
    botSpeaking = timeline.begin("bot", "speaking…", "spoke");
  });
  client.on("onBotStoppedSpeaking", () => {
    botSpeaking?.end();
    botSpeaking = null;
  });
  // Sent for every turn of the user; only where the bot was cut short it is worth a line.
  client.on("onInterruption", () => botSpeaking?.note("interrupted"));

  client.on("onUserTranscript", ({ text, final }) => {
    transcript ??= timeline.add("you", "");
    transcript.text(`“${text}”`);
    if (final) transcript = null;
  });
  client.on("onBotOutput", ({ text, segment_id: segment }) => {
    const known = segment === undefined ? undefined : segments.get(segment);
    if (known) known.text(`“${text}”`);
    else {
      const entry = timeline.add("bot", `“${text}”`);
      if (segment !== undefined) segments.set(segment, entry);
    }
  });
  client.on("onServerMessage", (data) => {
    if (operatorText(data) === null) timeline.add("bot", `sent a message: ${JSON.stringify(data)}`);
  });
  client.on("onOperatorMessage", ({ text }) => timeline.add("operator", `“${text}”`));
}
