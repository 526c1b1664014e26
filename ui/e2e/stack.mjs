// The pages against a running stack and a real guest; run by tests/tests/e2e/browser.rs. In the
// environment: VMMGR_URL, VMMGR_PASSWORD (file), VMMGR_GUEST (host/uuid), VMMGR_TOOLS (folder).
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { becomes, open, reason, tabOf, terminal, until } from './browser.mjs';
import { compare } from './picture.mjs';
import { pressKeys } from './raw-rfb.mjs';

const { VMMGR_URL: site, VMMGR_PASSWORD, VMMGR_GUEST, VMMGR_TOOLS } = process.env;
const [host, vm] = VMMGR_GUEST.split('/');
const path = `/v1/hosts/${host}/vms/${vm}`;
const password = readFileSync(VMMGR_PASSWORD, 'utf8').trim();
const SLOW = 300_000;

const stack = (...words) => execFileSync(join(VMMGR_TOOLS, 'stack'), words, { stdio: 'inherit' });
const step = (what) => console.log(`browser: ${what}`);

// The certificate is of the stack's own CA, which other tests check.
const { browser, context, complaints } = await open({ ignoreHTTPSErrors: true });

/** The API, as the test asks it beside the pages. */
const session = await context.request.post(`${site}/v1/session`, { data: { username: 'admin', password } });
const headers = { authorization: `Bearer ${(await session.json()).token}` };
const serial = async () => (await context.request.get(`${site}${path}/console/log?from=0`, { headers })).text();
const said = (text) => until(`the guest says ${text}`, async () => (await serial()).includes(text), SLOW);
const ticket = async (kind, mode) => {
  const answer = await context.request.post(`${site}${path}/console`, { headers, data: { kind, mode } });
  assert.equal(answer.status(), 200, await answer.text());
  return answer.json();
};
async function console_(kind, mode) {
  const page = await context.newPage();
  await page.goto(site + (await ticket(kind, mode)).page);
  return page;
}

async function logIn() {
  const page = await context.newPage();
  await page.goto(`${site}/`);
  await page.getByLabel('Name').fill('admin');
  await page.locator('input[name=password]').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
  return page;
}

/** As a person types: the driver itself would leave out Shift, and a guest sees keys, not characters. */
async function type(page, text) {
  await page.locator('canvas').click();
  for (const character of text) {
    const shifted = /[A-Z~!@#$%^&*()_+{}|:"<>?]/.test(character);
    if (shifted) await page.keyboard.down('Shift');
    await page.keyboard.press(character, { delay: 20 });
    if (shifted) await page.keyboard.up('Shift');
  }
  await page.keyboard.press('Enter');
}

step('log in, and open the screen from the table');
const fleet = await logIn();
const row = fleet.locator(`[data-guest="${vm}"]`);
const vnc = await tabOf(context, () => row.getByRole('button', { name: 'Screen' }).click());
await becomes(vnc, 'connected');
assert.equal(new URL(vnc.url()).hash, '');

step('the page shows what the screenshot of the API shows');
let seen;
await until(
  'the same picture',
  async () => {
    const png = await context.request.get(`${site}${path}/screenshot`, { headers });
    assert.equal(png.status(), 200);
    seen = await compare(vnc, await png.body());
    // A blinking cursor may differ.
    return seen.differ < 0.002 && seen.lit > 0.001;
  },
  SLOW,
).catch((error) => {
  throw new Error(`${error.message}: ${JSON.stringify(seen)}`);
});
console.log(`browser: ${JSON.stringify(seen)}`);

step('type into the screen');
await type(vnc, 'root');
// What is typed while the login still runs is thrown away by it.
await said("root login on 'tty1'");
await until('a shell on the screen', async () => {
  await type(vnc, 'echo shell-$((40+1)) >/dev/ttyS0');
  return (await serial()).includes('shell-41');
}, SLOW);
await type(vnc, 'echo typed-$((40+2)) >/dev/ttyS0');
await said('typed-42');

step('paste into the screen as keys');
await vnc.getByRole('button', { name: 'Paste as keys' }).click();
await vnc.getByLabel('Text', { exact: true }).fill('echo "Pasted: {~|#}" \\\n  >/dev/ttyS0\n');
await vnc.getByRole('button', { name: 'Type it' }).click();
await vnc.getByRole('dialog').waitFor({ state: 'detached' });
await said('Pasted: {~|#}');

step('log in on the serial line and run a command');
const line = await console_('serial', 'share');
await becomes(line, 'connected');
await until('the history', async () => (await terminal(line)).includes('Pasted: {~|#}'), SLOW);
await line.keyboard.press('Enter');
await until('a login prompt', async () => /login: *$/.test(await terminal(line)), SLOW);
await line.keyboard.type('root\n');
await until('a shell', async () => /# *$/.test(await terminal(line)), SLOW);
await line.keyboard.type('echo serial-$((6*7))\n');
await until('the answer', async () => (await terminal(line)).includes('serial-42'), SLOW);

step('a watcher sees and cannot type, whatever its client sends');
const watcher = await console_('vnc', 'view');
await becomes(watcher, 'connected');
await watcher.getByTestId('view-only').waitFor();
await type(watcher, 'zzz');
await pressKeys(watcher, await ticket('vnc', 'view'), [0x7a, 0x7a, 0x7a]);
// With a z before it this would be no command.
await type(vnc, 'echo checked-$((1+1)) >/dev/ttyS0');
await said('checked-2');
await watcher.close();

step('everything comes back after the proxy was killed');
stack('kill', 'vnc-proxy');
for (const page of [vnc, line]) await becomes(page, 'waiting');
stack('start', 'vnc-proxy');
for (const page of [vnc, line]) await page.locator('.console-body[data-state=connected]').waitFor({ timeout: SLOW });
await type(vnc, 'echo again-$((1+2)) >/dev/ttyS0');
await until('the line after the cut', async () => (await terminal(line)).includes('again-3'), SLOW);
const shown = await terminal(line);
for (const once of ['typed-42', 'serial-42', 'checked-2', 'again-3']) {
  assert.equal(shown.split(once).length - 1, 1, `${once} in:\n${shown}`);
}

step('a ticket opens once');
const { page: used } = await ticket('vnc', 'share');
for (const [why, wait] of [['', becomes], ['used', reason]]) {
  const page = await context.newPage();
  await page.goto(site + used);
  await (why === '' ? wait(page, 'connected') : wait(page, why));
}

assert.deepEqual(complaints, []);
step('done');
await browser.close();
