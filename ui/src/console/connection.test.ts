import { afterEach, beforeEach, expect, it, vi } from 'vitest';

vi.stubGlobal('WebSocket', class {});
const { Connection } = await import('./connection');
const { Tickets } = await import('./exchange');
import type { Tell } from './connection';
import type { State } from './session';

const grant = {
  ticket: { ticket: 't', websocket: '/console/ws', kind: 'vnc' as const, mode: 'share' as const },
  resume: 'r',
  host: 'h',
  vm: 'v',
  name: 'n',
};

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function scene() {
  const tells: Tell[] = [];
  const states: State[] = [];
  const exchange = vi.fn(() => Promise.resolve(grant));
  const screen = { attach: (_: unknown, tell: Tell) => void tells.push(tell), detach: vi.fn() };
  const connection = new Connection(new Tickets('t', exchange), screen, {
    state: (state) => states.push(state),
    grant: () => undefined,
  });
  return { tells, states, exchange, screen, connection, last: () => states.at(-1) };
}

it('comes back by itself with a ticket of its own', async () => {
  const { tells, exchange, connection, last } = scene();
  connection.start();
  await vi.advanceTimersByTimeAsync(0);
  tells[0]?.connected();
  await vi.advanceTimersByTimeAsync(60_000);
  tells[0]?.ended(1012, 'restart');
  expect(last()).toMatchObject({ at: 'waiting', attempt: 1 });
  await vi.advanceTimersByTimeAsync(500);
  expect(exchange).toHaveBeenCalledTimes(2);
  tells[1]?.connected();
  expect(last()).toEqual({ at: 'connected' });
});

it('counts on when a connection breaks at once', async () => {
  const { tells, connection, last } = scene();
  connection.start();
  for (let attempt = 1; attempt < 5; attempt += 1) {
    await vi.advanceTimersByTimeAsync(20_000);
    tells.at(-1)?.connected();
    tells.at(-1)?.ended(1011, 'lost');
    expect(last()).toMatchObject({ at: 'waiting', attempt });
  }
});

it('does nothing more after it was ended by hand, and an old websocket cannot disturb a new one', async () => {
  const { tells, exchange, connection, last } = scene();
  connection.start();
  await vi.advanceTimersByTimeAsync(0);
  tells[0]?.connected();
  connection.disconnect();
  tells[0]?.ended(1006, '');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(last()).toMatchObject({ at: 'ended', reason: 'by_user' });
  expect(exchange).toHaveBeenCalledTimes(1);
  connection.reconnect();
  await vi.advanceTimersByTimeAsync(0);
  tells[1]?.connected();
  tells[0]?.ended(1006, '');
  expect(last()).toEqual({ at: 'connected' });
});
