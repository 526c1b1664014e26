import { afterEach, expect, it, vi } from 'vitest';

import { Tenant, guestOf, isosOf } from './tenant';

const LINK = { host: 'host01', vm: '6f5d8bf6-d580-4946-9541-13fa98b4acf4', key: 'kkkkkkkkkkkkkkkkkkkkkk', expires: 1_999_999_999 };
afterEach(() => void vi.unstubAllGlobals());

it('reads a guest whose parts are JSON in strings, and one whose parts are JSON', () => {
  const parts = {
    mdconfig: { ipaddr: '192.168.168.2/32' },
    disks: [{ device: 'cdrom', type: 'https', dev: 'sda', vol: '/a/b.iso' }],
  };
  const plain = { uuid: 'u', desc: '测试VM', state: 'RUN', curcpu: 2, curmem: 2_097_152, ...parts };
  const wanted = {
    uuid: 'u',
    description: '测试VM',
    state: 'running',
    vcpus: 2,
    memoryMib: 2048,
    address: '192.168.168.2/32',
    disks: [{ device: 'cdrom', target: 'sda', source: '/a/b.iso' }],
  };
  expect(guestOf(plain)).toEqual(wanted);
  const strings = { ...plain, mdconfig: JSON.stringify(parts.mdconfig), disks: JSON.stringify(parts.disks) };
  expect(guestOf(strings)).toEqual(wanted);
  expect(guestOf([strings])).toEqual(wanted);
  expect(guestOf({ result: 'OK', guest: [plain] })).toEqual(wanted);
});

it('survives an answer that is something else', () => {
  for (const answer of [null, 'x', [], {}, { disks: '{', mdconfig: 3 }]) {
    expect(guestOf(answer)).toMatchObject({ state: 'no_state', disks: [] });
    expect(isosOf(answer)).toEqual([]);
  }
});

it('asks with the key of the link, and takes ERR for a failure whatever the status', async () => {
  const asked: string[] = [];
  vi.stubGlobal('fetch', (path: string, how: RequestInit) => {
    asked.push(`${how.method} ${path}`);
    return Promise.resolve(Response.json({ result: 'ERR', code: 998, name: 'x', desc: 'no such medium' }));
  });
  await expect(new Tenant(LINK).insert('sda', 'debian')).rejects.toThrow('no such medium');
  await expect(new Tenant(LINK).power('stop', true)).rejects.toThrow();
  const base = `/host01/${LINK.vm}?k=${LINK.key}&e=1999999999`;
  expect(asked).toEqual([`POST /user/vm/cdrom${base}&dev=sda`, `GET /user/vm/stop${base}&force=true`]);
});
