/**
 * Asks the project's connect endpoint for a session: where its socket is, and a token for it.
 */

import { ErrorCode, UNREACHABLE, VoiceError } from "./errors.js";
import { watchPolicy } from "./security-policy.js";

/**
 * @typedef {object} EndpointRequest
 * @property {string | URL} endpoint
 * @property {unknown} [requestData] sent as JSON; nothing is sent without it
 * @property {HeadersInit} [headers]
 * @property {number} [timeout] milliseconds
 */

/** @typedef {{ ws_url?: string, wsUrl?: string, token?: string }} ConnectionParams */

/**
 * @param {EndpointRequest} request
 * @param {AbortSignal} signal
 * @returns {Promise<ConnectionParams>}
 * @throws {VoiceError} connect-failed when nobody answers, connect-refused when the answer is an error
 */
export async function requestConnection({ endpoint, requestData, headers, timeout }, signal) {
  const allHeaders = new Headers(headers);
  allHeaders.set("Content-Type", "application/json");
  allHeaders.set("Accept", "application/json");
  let response;
  /** @type {VoiceError | null} */
  let blocked = null;
  const stopWatching = watchPolicy(endpoint, (error) => {
    blocked = error;
  });
  try {
    response = await fetch(endpoint, {
      method: "POST",
      headers: allHeaders,
      body: requestData === undefined ? null : JSON.stringify(requestData),
      signal: timeout === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(timeout)]),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "TimeoutError") {
      throw new VoiceError(ErrorCode.TIMEOUT, `The server did not answer within ${Number(timeout) / 1000} s.`);
    }
    // A policy tells of what it blocked in a task of its own.
    if (globalThis.document) await new Promise((resolve) => setTimeout(resolve));
    throw blocked ?? new VoiceError(ErrorCode.CONNECT_FAILED, UNREACHABLE, {
      reason: String(error),
      cause: error,
    });
  } finally {
    stopWatching();
  }
  // An error page of a proxy or of Django itself is HTML: anything that isn't JSON counts as empty.
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    const info = typeof answer?.info === "string" ? answer.info : "";
    throw new VoiceError(ErrorCode.CONNECT_REFUSED, info || refusal(response.status), {
      reason: `HTTP ${response.status}`,
      loginUrl: typeof answer?.login_url === "string" ? loginPage(answer.login_url) : "",
    });
  }
  if (typeof (answer?.ws_url ?? answer?.wsUrl) !== "string") {
    throw new VoiceError(ErrorCode.CONNECT_REFUSED, "The server's answer holds no ws_url.");
  }
  return answer;
}

/**
 * @param {string} url where the project's users log in
 * @returns {string} the same, with the way back to this page
 */
function loginPage(url) {
  const { location } = globalThis;
  const page = new URL(url, location?.href);
  if (!/^https?:$/.test(page.protocol)) return "";
  if (location) {
    const isOwn = page.origin === location.origin;
    page.searchParams.set("next", isOwn ? location.pathname + location.search : location.href);
  }
  return page.href;
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
  if (url.protocol === "ws:" && globalThis.location?.protocol === "https:" && !isLocal(url.hostname)) {
    throw new VoiceError(
      ErrorCode.INSECURE_SOCKET,
      "This site's server gave an insecure address (ws://) to a secure page, and browsers don't open it. "
        + "The server does not know that it is behind HTTPS.",
      { reason: `ws://${url.host}: set SECURE_PROXY_SSL_HEADER or VOICEWS["PUBLIC_URL"]` },
    );
  }
  if (token) url.searchParams.set("token", token);
  // Tells a voicews server that this client can read a refusal from a close code.
  url.searchParams.set("client", "voicews");
  return url.href;
}

/** @param {string} hostname */
function isLocal(hostname) {
  return hostname === "localhost" || hostname.endsWith(".localhost") || /^127\.|^\[::1\]$/.test(hostname);
}

/**
 * What to say when the socket could not be opened: with its address, where that is not the page's own.
 * @param {string} url
 * @returns {string}
 */
export function unreachable(url) {
  const { host } = new URL(url);
  const own = globalThis.location?.host ?? host;
  if (host === own) return UNREACHABLE;
  return `The server at ${host}, where calls go, can't be reached; this page came from ${own}. `
    + "Check your connection, or tell the site's owner.";
}
