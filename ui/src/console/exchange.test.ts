import { expect, it, vi } from 'vitest';

vi.stubGlobal('WebSocket', class {});
const { Tickets } = await import('./exchange');

const answer = (n: number) => ({
  ticket: { ticket: `t${n}`, websocket: '/console/ws', kind: 'vnc' as const, mode: 'share' as const },
  resume: `r${n}`,
  host: 'h',
  vm: 'v',
  name: 'n',
});

it('gives the ticket first and each resume secret once, in order, however many ask at once', async () => {
  const asked: unknown[] = [];
  let n = 0;
  const tickets = new Tickets('first', async (body) => {
    asked.push(body);
    n += 1;
    const mine = n;
    await Promise.resolve();
    return answer(mine);
  });
  const all = await Promise.all([tickets.next(), tickets.next(), tickets.next()]);
  expect(all.map((each) => each.ticket.ticket)).toEqual(['t1', 't2', 't3']);
  expect(asked).toEqual([{ ticket: 'first' }, { resume: 'r1' }, { resume: 'r2' }]);
});

it('keeps what it holds when an exchange fails', async () => {
  const asked: unknown[] = [];
  const tickets = new Tickets('first', (body) => {
    asked.push(body);
    return asked.length === 1 ? Promise.reject(new Error('away')) : Promise.resolve(answer(1));
  });
  await expect(tickets.next()).rejects.toThrow('away');
  await tickets.next();
  expect(asked).toEqual([{ ticket: 'first' }, { ticket: 'first' }]);
});
