"""Contrast between texts and what is behind them, as the browser has computed their colours."""

from __future__ import annotations

from playwright.sync_api import Page

#: What WCAG 2 asks for (level AA) of texts of normal size.
ENOUGH = 4.5

_FAINT_TEXTS = """(enough) => {
  const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  // Any colour that CSS knows, painted over another one.
  const paint = (colour, below) => {
    pixel.fillStyle = `rgb(${below})`;
    pixel.fillRect(0, 0, 1, 1);
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const canvas = isDark ? [18, 18, 18] : [255, 255, 255];
  const behind = (element) => {
    if (!element) return canvas;
    return paint(getComputedStyle(element).backgroundColor, behind(element.parentElement));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  let count = 0;
  for (const element of document.body.querySelectorAll("*")) {
    const texts = [...element.childNodes].filter(
      (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim(),
    );
    const value = element.matches("input[type=text]") ? element.placeholder : "";
    // Controls that can't be used need no contrast.
    if (element.closest(":disabled") || !element.checkVisibility()) continue;
    if (texts.length === 0 && !value) continue;
    const style = getComputedStyle(element, value ? "::placeholder" : null);
    const below = behind(element);
    const [a, b] = [luminance(paint(style.color, below)), luminance(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count += 1;
    if (ratio < enough) {
      faint.push(`${element.tagName} ${element.className}: ${ratio.toFixed(2)} `
        + `"${(value || element.textContent).trim().slice(0, 40)}"`);
    }
  }
  return { faint, count };
}"""


def faint_texts(page: Page) -> list[str]:
    """The texts that are shown with too little contrast, each with its ratio."""
    found = page.evaluate(_FAINT_TEXTS, ENOUGH)
    assert found["count"] > 3, "the page shows no texts"
    faint: list[str] = found["faint"]
    return faint
