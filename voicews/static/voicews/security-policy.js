/**
 * Notices when the page's Content-Security-Policy blocks a request: the browser tells the request itself nothing.
 */

import { ErrorCode, VoiceError } from "./errors.js";

/**
 * @param {string | URL} url
 * @param {(error: VoiceError) => void} onBlocked called in a task of its own, a moment after the request
 * @returns {() => void} stops watching
 */
export function watchPolicy(url, onBlocked) {
  const { document, location } = globalThis;
  if (!document) return () => {};
  const { origin, href } = new URL(url, location.href);
  const listener = (/** @type {SecurityPolicyViolationEvent} */ event) => {
    const { blockedURI, disposition, effectiveDirective } = event;
    if (disposition !== "enforce" || (blockedURI !== origin && !href.startsWith(blockedURI))) return;
    onBlocked(new VoiceError(
      ErrorCode.BLOCKED_BY_POLICY,
      `This site's Content-Security-Policy forbids what calls need: ${effectiveDirective} must allow ${origin}.`,
      { reason: `${effectiveDirective} blocked ${blockedURI}` },
    ));
  };
  document.addEventListener("securitypolicyviolation", listener);
  return () => document.removeEventListener("securitypolicyviolation", listener);
}
