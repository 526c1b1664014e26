// The built pages in a real browser against the mock (../mock): seconds, no hypervisor.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, beforeEach, test } from 'node:test';

import { Mock } from '../mock/server.mjs';
import { HEIGHT, WIDTH } from '../mock/rfb.mjs';
import { becomes, open, pixel, reason, tabOf, terminal, until } from './browser.mjs';

let mock, browser, context, complaints;

before(async () => {
  ({ browser, context, complaints } = await open());
});
after(() => browser?.close());
beforeEach(async (t) => {
  mock = await new Mock().listen();
  t.after(async () => {
    for (const page of context.pages()) await page.close();
    mock.close();
    // The policy lets all through that the pages need, and nothing threw.
    assert.deepEqual(complaints.splice(0), []);
  });
});

async function page(path) {
  const tab = await context.newPage();
  await tab.goto(mock.url + path);
  return tab;
}

async function console_(kind, mode) {
  const tab = await page(mock.ticket(mock.guests[0], kind, mode).page);
  if (kind !== 'spice') await becomes(tab, 'connected');
  return tab;
}

const screen = () => mock.screens.at(-1);
const down = () => screen().keys.filter((key) => key.down).map((key) => key.keysym);
const keysyms = (text) => [...text].map((character) => character.charCodeAt(0));

async function logIn() {
  const tab = await page('/');
  await tab.getByLabel('Name').fill('admin');
  await tab.locator('input[name=password]').fill('correct horse');
  await tab.getByRole('button', { name: 'Log in' }).click();
  await tab.getByRole('table').waitFor();
  return tab;
}

test('start page: a refused login tells why and what to do', async () => {
  const tab = await page('/');
  await tab.getByLabel('Name').fill('admin');
  await tab.locator('input[name=password]').fill('wrong');
  await tab.getByRole('button', { name: 'Log in' }).click();
  const alert = tab.getByRole('alert');
  await alert.getByText('wrong name or password').waitFor();
  await alert.getByText('check the keyboard layout').waitFor();
});

test('start page: guests, power, filter, and a console in a tab of its own', async () => {
  const tab = await logIn();
  const row = (name) => tab.getByRole('row').filter({ hasText: name });
  assert.equal(await row('db1').getByRole('button', { name: 'Screen' }).isDisabled(), true);
  await row('db1').getByRole('button', { name: 'Start' }).click();
  await row('db1').getByText('running').waitFor();
  await row('db1').getByRole('button', { name: 'Power off' }).click();
  assert.equal(mock.guests[1].state, 'running', 'power off must ask once more');
  await row('db1').getByRole('button', { name: 'Sure?' }).click();
  await row('db1').getByText('off', { exact: true }).waitFor();
  await row('web1').getByRole('button', { name: 'Look up' }).click();
  await row('web1').getByText('169.254.3.4').waitFor();
  await tab.getByRole('searchbox').fill('web1 RUNNING');
  await tab.getByText('1 of 2').waitFor();
  const vnc = await tabOf(context, () => row('web1').getByRole('button', { name: 'Screen' }).click());
  await becomes(vnc, 'connected');
  assert.equal(new URL(vnc.url()).hash, '');
  await tab.getByRole('button', { name: 'Log out' }).click();
  await tab.locator('input[name=password]').waitFor();
});

test('API: every route is there, found by words, and opens', async () => {
  const tab = await page('/api.html');
  const routes = tab.locator('section > details');
  await routes.first().waitFor();
  assert.ok((await routes.count()) > 70);
  await tab.getByRole('searchbox').fill('snapshots post');
  assert.equal(await routes.count(), 2);
  await tab.locator('#create_snapshot > summary').click();
  await tab.getByText('Body: SnapshotCreate').waitFor();
  assert.match(await tab.locator('#create_snapshot').innerText(), /Idempotency-Key/);
});

test('start page: guests change as the gateway tells, without asking; where it does not, by asking', async () => {
  const tab = await logIn();
  const row = (name) => tab.getByRole('row').filter({ hasText: name });
  await until('the list after the stream began', () => mock.streams.size === 1 && mock.lists === 1);
  const [web1, db1] = mock.guests;
  mock.tell('vm', { ...db1, state: 'running' });
  await row('db1').getByText('running').waitFor();
  mock.tell('host', { host: 'host01', state: 'unreachable', age_seconds: 4 });
  mock.tell('vm_removed', { host: 'host01', id: web1.id });
  await row('web1').waitFor({ state: 'detached' });
  assert.equal(mock.lists, 1, 'the list was read again');
  // Down for good: the list is asked for.
  mock.silent = true;
  mock.cut();
  await row('web1').waitFor({ timeout: 10_000 });
  // And back: the stream is opened again.
  mock.silent = false;
  await until('a stream again', () => mock.streams.size === 1);
});

test('screen: shows, takes keys, combinations and a pasted text, and can be saved', async () => {
  const tab = await console_('vnc');
  assert.equal(new URL(tab.url()).hash, '', 'the ticket must leave the address bar');
  await until('the title', async () => (await tab.title()).includes('web1'));
  await until('the first picture', async () => (await pixel(tab, 10, 10)).join() === screen().colour.join());
  await tab.locator('canvas').click();
  await tab.keyboard.type('aZ');
  await until('typed keys', () => keysyms('aZ').every((keysym) => down().includes(keysym)));
  await until('the picture after the keys', async () => (await pixel(tab, 10, 10)).join() === screen().colour.join());
  screen().keys.length = 0;
  await tab.getByRole('button', { name: 'Ctrl-Alt-Del' }).click();
  await until('Ctrl-Alt-Del', () => down().join() === [0xffe3, 0xffe9, 0xffff].join());

  screen().keys.length = 0;
  await tab.getByRole('button', { name: 'Paste as keys' }).click();
  await tab.getByLabel('Text', { exact: true }).fill('Hi!\n中');
  await tab.getByText('No key on this layout for: 中').waitFor();
  await tab.getByLabel('Text', { exact: true }).fill('Hi!\n');
  await tab.getByRole('button', { name: 'Type it' }).click();
  await tab.getByRole('dialog').waitFor({ state: 'detached' });
  // With the scan codes that the guest's keyboard has: shift, h, i, shift, 1, enter.
  const codes = screen().keys.filter((key) => key.down).map((key) => key.code);
  assert.deepEqual(codes, [0x2a, 0x23, 0x17, 0x2a, 0x02, 0x1c]);

  const [download] = await Promise.all([
    tab.waitForEvent('download'),
    tab.getByRole('button', { name: 'Screenshot' }).click(),
  ]);
  assert.match(download.suggestedFilename(), /^web1-.*\.png$/);
  const png = await readFile(await download.path());
  assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [WIDTH, HEIGHT]);
});

test('screen: a long paste can be stopped', async () => {
  const tab = await console_('vnc');
  await tab.getByRole('button', { name: 'Paste as keys' }).click();
  await tab.getByLabel('Text', { exact: true }).fill('x'.repeat(2000));
  await tab.getByRole('button', { name: 'Type it' }).click();
  await until('some keys', () => down().length > 3);
  await tab.getByRole('button', { name: 'Stop' }).click();
  await tab.getByRole('button', { name: 'Type it' }).and(tab.locator(':enabled')).waitFor();
  assert.ok(down().length < 2000);
});

test('screen: comes back by itself, and stays away when it was ended for good', async () => {
  const tab = await console_('vnc');
  mock.drop(1012, 'restart');
  await until('another session', () => mock.screens.length === 2);
  await becomes(tab, 'connected');
  await until('its picture', async () => (await pixel(tab, 1, 1)).join() === screen().colour.join());
  mock.drop(1008, 'taken over by anna');
  await reason(tab, 'ended');
  await tab.getByText('taken over by anna').waitFor();
  await tab.getByRole('button', { name: 'Reconnect' }).click();
  await becomes(tab, 'connected');
  await tab.getByRole('button', { name: 'Disconnect' }).click();
  await reason(tab, 'by_user');
  assert.equal(mock.screens.length, 3);
});

test('screen: a watcher is told so and sends nothing', async () => {
  const tab = await console_('vnc', 'view');
  await tab.getByTestId('view-only').waitFor();
  assert.equal(await tab.getByRole('button', { name: 'Ctrl-Alt-Del' }).isDisabled(), true);
  assert.equal(await tab.getByRole('button', { name: 'Paste as keys' }).isDisabled(), true);
  await tab.locator('canvas').click();
  await tab.keyboard.type('abc');
  // A key that would have been sent before this round trip would be here by its end.
  mock.drop(1012, 'restart');
  await until('another session', () => mock.screens.length === 2);
  assert.deepEqual(mock.screens.flatMap((each) => each.keys), []);
});

test('screen: the keyboard leads back to the bar', async () => {
  const tab = await console_('vnc');
  await tab.locator('canvas').focus();
  await tab.keyboard.press('Control+Alt+Shift+KeyM');
  const focused = await tab.evaluate(() => document.activeElement?.closest('[role=toolbar]') !== null);
  assert.equal(focused, true);
});

test('consoles: each refusal has a text of its own', async () => {
  const { page: used } = mock.ticket(mock.guests[0], 'vnc');
  await becomes(await page(used), 'connected');
  const again = await page(used);
  await reason(again, 'used');
  await again.getByText('has been used or has expired').waitFor();
  assert.equal(await again.getByRole('button', { name: 'Reconnect' }).count(), 0);

  const { page: off } = mock.ticket(mock.guests[0], 'vnc');
  mock.guests[0].state = 'shut_off';
  await reason(await page(off), 'off');
  mock.guests[0].state = 'running';

  await reason(await page('/console/vnc.html'), 'no_ticket');
  const other = mock.ticket(mock.guests[0], 'serial').page.replace('serial', 'vnc');
  await reason(await page(other), 'kind');
});

test('serial: history, typing, and nothing lost or doubled over a reconnect', async () => {
  const tab = await console_('serial');
  await until('history', async () => (await terminal(tab)).includes('welcome'));
  await tab.keyboard.type('uname');
  await tab.keyboard.press('Enter');
  await until('the echo', async () => (await terminal(tab)).includes('uname'));
  mock.drop(1012, 'restart');
  mock.say('said while away\r\n');
  await becomes(tab, 'connected');
  mock.say('said after\r\n');
  await until('the end', async () => (await terminal(tab)).includes('said after'));
  assert.equal(await terminal(tab), 'welcome\nuname\nsaid while away\nsaid after');
});

test('serial: output that is no longer kept is told', async () => {
  const tab = await console_('serial');
  await until('history', async () => (await terminal(tab)).includes('welcome'));
  mock.drop(1011, 'host lost');
  mock.say('x'.repeat(100) + '\r\nnew\r\n');
  mock.kept = mock.line.length - 5;
  await until('the note', async () => (await terminal(tab)).includes('bytes of earlier output are no longer kept'));
  assert.ok((await terminal(tab)).endsWith('new'));
});

test('SPICE: each channel opens with a ticket', async () => {
  await console_('spice');
  await until('the magic number of SPICE', () => mock.spice.includes('REDQ'));
});

const soon = () => Math.floor(Date.now() / 1000) + 3600;

test("tenant's page: state, power, medium, console, and the time left", async () => {
  const tab = await page(`/guest.html?token=${mock.tenants.token(mock.guests[0], soon())}`);
  assert.equal(new URL(tab.url()).search, '', 'the token must leave the query');
  await tab.getByTestId('guest-state').getByText('running').waitFor();
  await tab.getByText('测试VM').waitFor();
  assert.match(await tab.getByTestId('left').innerText(), /59 min/);
  await tab.getByRole('button', { name: 'Shut down' }).click();
  await tab.getByTestId('guest-state').getByText('off').waitFor();
  await tab.getByRole('button', { name: 'Start' }).click();
  await tab.getByTestId('guest-state').getByText('running').waitFor();
  await tab.getByRole('combobox').click();
  await tab.getByRole('option', { name: 'Debian 12' }).click();
  await tab.getByRole('button', { name: 'Insert' }).click();
  await tab.getByText('debian.iso').waitFor();
  const vnc = await tabOf(context, () => tab.getByRole('button', { name: 'Screen' }).click());
  await becomes(vnc, 'connected');
  await tab.reload();
  await tab.getByTestId('guest-state').waitFor();
});

test("tenant's page: expired, wrong and missing links, in Chinese as well", async () => {
  const [guest] = mock.guests;
  const expired = await page(`/guest.html?token=${mock.tenants.token(guest, 1743436799)}`);
  await expired.locator('[data-page=expired]').waitFor();
  await expired.getByRole('button', { name: '中文' }).click();
  await expired.getByText('访问权限已结束').waitFor();
  assert.equal(await expired.evaluate(() => document.documentElement.lang), 'zh');
  await expired.getByRole('button', { name: 'English' }).click();
  for (const token of ['nonsense', mock.tenants.token(guest, soon(), 'x'.repeat(22))]) {
    await (await page(`/guest.html?token=${token}`)).locator('[data-page=wrong]').waitFor();
  }
  const asked = await page('/guest.html');
  await asked.getByLabel('Link or token').fill('not a link');
  await asked.getByRole('button', { name: 'Open' }).click();
  await asked.getByText('This is not a link of this site').waitFor();
  await asked.getByLabel('Link or token').fill(`${mock.url}/guest.html?token=${mock.tenants.token(guest, soon())}`);
  await asked.getByRole('button', { name: 'Open' }).click();
  await asked.getByTestId('guest-state').waitFor();
});

test("tenant's page: a link that ends while it is open closes the page", async () => {
  const tab = await page(`/guest.html?token=${mock.tenants.token(mock.guests[0], Math.floor(Date.now() / 1000) + 3)}`);
  await tab.locator('[data-page=expired]').waitFor();
});
