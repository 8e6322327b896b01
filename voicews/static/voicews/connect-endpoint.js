/**
 * Asks the project's connect endpoint for a session: where its socket is, and a token for it.
 */

import { ErrorCode, UNREACHABLE, VoiceError } from "./errors.js";

/**
 * @typedef {object} EndpointRequest
 * @property {string | URL} endpoint
 * @property {unknown} [requestData] sent as JSON; nothing is sent without it
 * @property {HeadersInit} [headers]
 */

/** @typedef {{ ws_url?: string, wsUrl?: string, token?: string }} ConnectionParams */

/**
 * @param {EndpointRequest} request
 * @param {AbortSignal} signal
 * @returns {Promise<ConnectionParams>}
 * @throws {VoiceError} connect-failed when nobody answers, connect-refused when the answer is an error
 */
export async function requestConnection({ endpoint, requestData, headers }, signal) {
  const allHeaders = new Headers(headers);
  allHeaders.set("Content-Type", "application/json");
  allHeaders.set("Accept", "application/json");
  let response;
  try {
    response = await fetch(endpoint, {
      method: "POST",
      headers: allHeaders,
      body: requestData === undefined ? null : JSON.stringify(requestData),
      signal,
    });
  } catch (error) {
    throw new VoiceError(ErrorCode.CONNECT_FAILED, UNREACHABLE, {
      reason: String(error),
      cause: error,
    });
  }
  // An error page of a proxy or of Django itself is HTML: anything that isn't JSON counts as empty.
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    const info = typeof answer?.info === "string" ? answer.info : "";
    throw new VoiceError(ErrorCode.CONNECT_REFUSED, info || refusal(response.status), {
      reason: `HTTP ${response.status}`,
    });
  }
  if (typeof (answer?.ws_url ?? answer?.wsUrl) !== "string") {
    throw new VoiceError(ErrorCode.CONNECT_REFUSED, "The server's answer holds no ws_url.");
  }
  return answer;
}

/** @param {number} status */
function refusal(status) {
  if (status === 401 || status === 403) return "You are not allowed to start a call.";
  if (status === 404) return "There is no such bot.";
  if (status === 503) return "The server takes no new calls at the moment.";
  return `The server could not start a call (HTTP ${status}).`;
}

/**
 * @param {ConnectionParams} params
 * @param {string | undefined} token replaces one that is in the URL already
 * @returns {string} an absolute ws: or wss: URL
 * @throws {VoiceError} invalid-argument
 */
export function socketUrl(params, token = params.token) {
  const address = params.ws_url ?? params.wsUrl;
  let url;
  try {
    if (!address) throw new TypeError("no ws_url");
    url = new URL(address, globalThis.location?.href);
  } catch (error) {
    throw new VoiceError(
      ErrorCode.INVALID_ARGUMENT,
      `Expected a WebSocket URL, found ${JSON.stringify(address ?? null)}.`,
      { cause: error },
    );
  }
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  if (token) url.searchParams.set("token", token);
  // Tells a voicews server that this client can read a refusal from a close code.
  url.searchParams.set("client", "voicews");
  return url.href;
}
