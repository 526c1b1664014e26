import { expect, it } from 'vitest';

import type { Guest } from './fleet';
import { LiveList, applied } from './live';

const guest = (id: string, state: Guest['state'] = 'running', host = 'h1'): Guest => ({
  host, host_state: 'reachable', age_seconds: 0, id, name: id, state, record: {},
});
const vm = (data: Guest) => ({ event: 'vm', data });
const shown = (guests: Guest[]) => guests.map(({ host, id, state }) => `${host}/${id} ${state}`);

it('keeps the list as the events say', () => {
  const before = [guest('a'), guest('b'), guest('a', 'running', 'h2')];
  expect(shown(applied(before, vm(guest('b', 'paused'))))).toEqual(['h1/a running', 'h1/b paused', 'h2/a running']);
  expect(shown(applied(before, vm(guest('c', 'shut_off'))))).toContain('h1/c shut_off');
  expect(shown(applied(before, { event: 'vm_removed', data: { host: 'h1', id: 'a' } }))).toEqual(['h1/b running', 'h2/a running']);
  expect(shown(applied(before, { event: 'host_removed', data: { host: 'h1' } }))).toEqual(['h2/a running']);
  const away = applied(before, { event: 'host', data: { host: 'h2', state: 'unreachable', age_seconds: 7 } });
  expect(away.map((each) => `${each.host_state} ${each.age_seconds}`)).toEqual(['reachable 0', 'reachable 0', 'unreachable 7']);
  expect(applied(before, { event: 'operation', data: {} })).toBe(before);
});

it('does not let a list that was asked for earlier undo what has changed since', async () => {
  const list = new LiveList();
  let answer: (guests: Guest[]) => void = () => undefined;
  const read = list.read(() => new Promise((resolve) => (answer = resolve)));
  expect(list.take(undefined, vm(guest('a', 'paused')))).toBeUndefined();
  expect(shown(list.take([guest('b')], { event: 'vm_removed', data: { host: 'h1', id: 'b' } }) ?? [])).toEqual([]);
  answer([guest('a', 'running'), guest('b')]);
  expect(shown(await read)).toEqual(['h1/a paused']);
  // What was before the next question is in its answer.
  expect(shown(await list.read(() => Promise.resolve([guest('a')])))).toEqual(['h1/a running']);
  await expect(list.read(() => Promise.reject(new Error('away')))).rejects.toThrow('away');
});
