// Chromium, as the tests drive it, and how they look into the pages.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const PROGRAM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

/** A browser, and what its pages complained about. */
export async function open(options = {}) {
  const browser = await chromium.launch({
    executablePath: PROGRAM,
    // As root, as in the lab, Chromium's own sandbox cannot be.
    args: ['--disable-dev-shm-usage', '--disable-gpu', ...(process.getuid?.() === 0 ? ['--no-sandbox'] : [])],
  });
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, locale: 'en-GB', ...options });
  context.setDefaultTimeout(20_000);
  const complaints = [];
  context.on('weberror', (error) => complaints.push(String(error.error())));
  context.on('console', (message) => {
    if (/content security policy/i.test(message.text())) complaints.push(message.text());
  });
  return { browser, context, complaints };
}

/** Waits for the state that a console page shows. */
export const becomes = (page, state) => page.locator(`.console-body[data-state="${state}"]`).waitFor();

/** Why a console page has ended. */
export const reason = (page, why) => page.locator(`[data-reason="${why}"]`).waitFor();

/** Colour of a point of the canvas, `[r, g, b]`. */
export const pixel = (page, x, y) =>
  page.locator('canvas').evaluate((canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3), [x, y]);

/** What the terminal shows, line by line. */
export const terminal = (page) =>
  page.locator('.xterm-rows > div').evaluateAll((rows) => rows.map((row) => row.textContent.trimEnd()).join('\n').trimEnd());

/** Polls until `look` gives something true. */
export async function until(what, look, within = 20_000) {
  const end = Date.now() + within;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`${what}: not within ${within} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Presses a button that opens a tab, and gives the tab. */
export async function tabOf(context, press) {
  const [tab] = await Promise.all([context.waitForEvent('page'), press()]);
  return tab;
}
