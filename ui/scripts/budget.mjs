// Sums what the browser must have before a page shows, compressed, and fails above the budget.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const BUDGET = 250 * 1024;
const dist = new URL('../dist/', import.meta.url);
const pages = ['index.html', 'guest.html', 'api.html', ...readdirSync(new URL('console/', dist)).map((name) => `console/${name}`)];
let over = false;
for (const page of pages) {
  const html = readFileSync(new URL(page, dist), 'utf8');
  const files = [...html.matchAll(/(?:src|href)="\/(assets\/[^"]+\.(?:js|css))"/g)].map(([, file]) => file);
  const bytes = [...new Set(files)].reduce((sum, file) => sum + gzipSync(readFileSync(new URL(file, dist))).length, 0);
  over ||= bytes > BUDGET;
  console.log(`${page.padEnd(22)} ${(bytes / 1024).toFixed(1).padStart(6)} KiB gz of ${BUDGET / 1024}`);
}
if (over) {
  console.error('a page is over its budget: move what it does not need at first into a lazy chunk');
  process.exit(1);
}
