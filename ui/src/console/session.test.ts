import { describe, expect, it } from 'vitest';

import { Problem } from '../shell/api';
import { START, delayOf, next, type Event, type State } from './session';

const closed = (code: number, reason = ''): Event => ({ is: 'closed', code, reason });
const refused = (status: number, code = 'x'): Event => ({ is: 'refused', problem: new Problem(status, code, 'why') });
const CONNECTED: State = { at: 'connected' };
const step = (state: State, event: Event) => next(state, event, 1);

describe('a console session', () => {
  it.each([1001, 1005, 1006, 1011, 1012])('comes back after close %i', (code) => {
    expect(step(CONNECTED, closed(code))).toEqual({ at: 'waiting', attempt: 1, delayMs: 500 });
  });

  it('stays away when the guest closed its console or the session was ended', () => {
    expect(step(CONNECTED, closed(1000))).toMatchObject({ at: 'ended', reason: 'closed' });
    expect(step(CONNECTED, closed(1008, 'revoked'))).toEqual({ at: 'ended', reason: 'ended', detail: 'revoked' });
  });

  it.each([
    [401, 'used'],
    [403, 'forbidden'],
    [404, 'gone'],
    [409, 'off'],
    [422, 'failed'],
  ])('ends with a text of its own when a ticket is refused with %i', (status, reason) => {
    expect(step(START, refused(status))).toEqual({ at: 'ended', reason, detail: 'why' });
  });

  it.each([0, 429, 500, 502, 503, 504])('asks again when the answer was %i', (status) => {
    expect(step(START, refused(status)).at).toBe('waiting');
  });

  it('does not take a gateway without consoles for a guest that is gone', () => {
    expect(step(START, refused(404, 'no_such_route'))).toMatchObject({ reason: 'failed' });
  });

  it('waits longer each time, and gives up in the end', () => {
    let state: State = START;
    const delays: number[] = [];
    while (state.at === 'starting') {
      state = step(state, closed(1006));
      if (state.at !== 'waiting') break;
      delays.push(state.delayMs);
      state = step(state, { is: 'timer' });
    }
    expect(delays.slice(0, 6)).toEqual([500, 1000, 2000, 4000, 8000, 15_000]);
    expect(Math.max(...delays)).toBe(15_000);
    expect(state).toMatchObject({ at: 'ended', reason: 'gave_up' });
    const minutes = delays.reduce((sum, delay) => sum + delay, 0) / 60_000;
    expect(minutes).toBeGreaterThan(4);
    expect(minutes).toBeLessThan(8);
  });

  it('spreads the attempts of many pages', () => {
    expect(delayOf(3, 0)).toBe(3000);
    expect(delayOf(3, 1)).toBe(4000);
    expect(delayOf(60, 1)).toBe(15_000);
  });

  it('begins anew by hand from anywhere but a live connection', () => {
    const states: State[] = [
      { at: 'waiting', attempt: 9, delayMs: 1 },
      { at: 'ended', reason: 'closed', detail: '' },
    ];
    for (const state of states) expect(step(state, { is: 'reconnect' })).toEqual(START);
    expect(step(CONNECTED, { is: 'reconnect' })).toBe(CONNECTED);
  });

  it('ends by hand, and nothing that comes late changes that', () => {
    const ended = step(CONNECTED, { is: 'disconnect' });
    expect(ended).toMatchObject({ at: 'ended', reason: 'by_user' });
    for (const late of [closed(1006), refused(503), { is: 'timer' }, { is: 'connected' }] as Event[]) {
      expect(step(ended, late)).toBe(ended);
    }
  });
});
