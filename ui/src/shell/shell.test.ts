import { afterEach, expect, it, vi } from 'vitest';

import { fileName } from '../console/save';
import { matching, shortName, type Guest } from '../fleet/fleet';
import { Problem, call, problemOf } from './api';
import { preferred, translate } from './i18n';
import { en } from './texts/en';
import { zh } from './texts/zh';
import { filled, v1 } from './v1';

afterEach(() => void vi.unstubAllGlobals());

it('speaks the first language of the browser that it knows', () => {
  expect(preferred(['fr', 'zh-Hans-CN', 'en'])).toBe('zh');
  expect(preferred(['en-GB', 'zh'])).toBe('en');
  expect(preferred(['ja'])).toBe('en');
});

it('has the same places in both languages', () => {
  const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
  for (const key of Object.keys(en) as (keyof typeof en)[]) expect(places(zh[key]), key).toEqual(places(en[key]));
  expect(translate('en', 'count', { shown: 1, all: 2 })).toBe('1 of 2');
});

it('reads failures of both faces of the API', () => {
  expect(problemOf(409, { code: 'wrong_state', detail: 'd', hint: 'h', request_id: 'r' })).toMatchObject({
    status: 409, code: 'wrong_state', message: 'd', hint: 'h', requestId: 'r',
  });
  expect(problemOf(403, { result: 'ERR', code: 998, desc: 'no' })).toMatchObject({ code: 'http_403', message: 'no' });
  expect(problemOf(502, undefined)).toMatchObject({ message: 'HTTP 502' });
});

it('sends the token as a header, no cookies, and tells a missing answer from a failure', async () => {
  const seen = vi.fn((_path: string, _how: RequestInit) => Promise.resolve(Response.json({ a: 1 })));
  vi.stubGlobal('fetch', seen);
  await expect(call('/v1/vms', { token: 'T' })).resolves.toEqual({ a: 1 });
  expect(seen.mock.calls[0]?.[1]).toMatchObject({ credentials: 'omit', headers: { authorization: 'Bearer T' } });
  vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')));
  await expect(call('/v1/vms')).rejects.toEqual(new Problem(0, 'network', 'Failed to fetch'));
});

it('fills the routes of the API and escapes what it puts in', async () => {
  expect(filled('/v1/hosts/{host}/vms/{vm}', { host: 'a/b?', vm: 7 })).toBe('/v1/hosts/a%2Fb%3F/vms/7');
  const seen = vi.fn((_path: string, _how: RequestInit) => Promise.resolve(Response.json({})));
  vi.stubGlobal('fetch', seen);
  await v1('post', '/v1/hosts/{host}/vms/{vm}/start', { path: { host: 'h', vm: 'v' }, query: { wait_ms: 5 }, token: 'T' });
  await v1('post', '/v1/session', { body: { username: 'ada', password: 'secret' } });
  expect(seen.mock.calls.map(([path, how]) => [path, how.method, how.body])).toEqual([
    ['/v1/hosts/h/vms/v/start?wait_ms=5', 'POST', null],
    ['/v1/session', 'POST', '{"username":"ada","password":"secret"}'],
  ]);
  // @ts-expect-error a route that there is not
  await v1('get', '/v1/nothing');
});

it('filters by all words in what is shown', () => {
  const guest = (name: string, host: string): Guest => ({
    host, name, id: name, state: 'running', host_state: 'reachable', age_seconds: 0, record: { ipaddr: '10.0.0.7/24' },
  });
  const all = [guest('web1', 'host01'), guest('web2', 'host02')];
  const names = (filter: string) => matching(all, filter, (state) => state).map(({ name }) => name);
  expect(names('WEB running')).toEqual(['web1', 'web2']);
  expect(names('web host02')).toEqual(['web2']);
  expect(names('10.0.0.7 nothing')).toEqual([]);
});

it('names a screenshot after the guest', () => {
  expect(fileName('../web 1', new Date('2026-01-02T03:04:05Z'))).toBe('.._web_1-2026-01-02-03-04-05.png');
});

it('shows a guest without the id that is in its name', () => {
  expect(shortName({ name: 'web1-6f5d', id: '6f5d' })).toBe('web1');
  expect(shortName({ name: 'old', id: '6f5d' })).toBe('old');
});
