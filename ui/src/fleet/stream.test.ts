import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { EventParser, SILENCE_MS, follow } from './stream';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const STREAM = 'event: vm\nid: e-1\ndata: {"a":1}\n\n: keep-alive\nid: e-4\n\nevent: host\r\nid: e-5\r\ndata: {}\r\n\r\nevent: lost\n';

it('reads a stream the same however it is cut', () => {
  for (let size = 1; size < STREAM.length; size += 1) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...parser.push(STREAM.slice(at, at + size)));
    expect(found, `in pieces of ${size}`).toEqual([
      { event: 'vm', id: 'e-1', data: '{"a":1}' },
      { event: 'host', id: 'e-5', data: '{}' },
    ]);
    expect(parser.lastId).toBe('e-5');
    parser.push('id: e-6\n');
    expect(parser.lastId, 'what did not come whole comes again').toBe('e-5');
  }
});

/** Answers of a gateway in turn, each with what it sends before it ends; the last one stays open. */
function gateway(...answers: (string[] | number | Error)[]) {
  const asked: Record<string, string>[] = [];
  vi.stubGlobal('fetch', (_path: string, { headers, signal }: { headers: Record<string, string>; signal: AbortSignal }) => {
    asked.push(headers);
    const answer = answers[asked.length - 1];
    if (answer instanceof Error) return Promise.reject(answer);
    if (typeof answer === 'number') return Promise.resolve(Response.json({ code: 'c' }, { status: answer }));
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        signal.addEventListener('abort', () => controller.error(signal.reason));
        for (const piece of answer ?? []) controller.enqueue(new TextEncoder().encode(piece));
        if (asked.length < answers.length) controller.close();
      },
    });
    return Promise.resolve(new Response(body));
  });
  return asked;
}

function listen() {
  const leaving = new AbortController();
  const [events, states] = [[] as [string, unknown][], [] as boolean[]];
  const ended = follow('/v1/events', 'T', leaving.signal, {
    onEvent: (event, data) => void events.push([event, data]),
    onState: (live) => void states.push(live),
  });
  return { leaving, events, states, ended };
}

it('goes on where a stream broke, with the token in a header', async () => {
  const asked = gateway(
    ['event: resync\nid: e-7\ndata: {"reason":"st', 'art"}\n\n', 'event: vm\nid: e-8\nda'],
    new TypeError('Failed to fetch'),
    ['event: vm\nid: e-8\ndata: {"id":"中"}\n\n'],
  );
  const { leaving, events, states, ended } = listen();
  await vi.advanceTimersByTimeAsync(5000);
  expect(events).toEqual([
    ['resync', { reason: 'start' }],
    ['vm', { id: '中' }],
  ]);
  expect(asked.map((headers) => headers['last-event-id'])).toEqual([undefined, 'e-7', 'e-7']);
  expect(asked[0]).toMatchObject({ authorization: 'Bearer T' });
  expect(states.filter((live, at) => live !== states[at - 1])).toEqual([true, false, true]);
  leaving.abort();
  await ended;
});

it('waits longer and longer for a gateway that is away, and not at all for one that refuses', async () => {
  const asked = gateway(503, 503, 503, 503, 503, 503, 503, 503, []);
  const away = listen();
  await vi.advanceTimersByTimeAsync(500);
  expect(asked.length).toBe(2);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(asked.length).toBeGreaterThan(5);
  expect(asked.length).toBeLessThan(9);
  expect(away.states).not.toContain(true);
  away.leaving.abort();
  await away.ended;
  const again = gateway(401, []);
  const refused = listen();
  await refused.ended;
  expect([again.length, refused.states]).toEqual([1, [false]]);
});

it('leaves a stream that has gone silent', async () => {
  const asked = gateway([': keep-alive\nid: e-1\n\n'], [': keep-alive\nid: e-2\n\n']);
  const { leaving, states, ended } = listen();
  await vi.advanceTimersByTimeAsync(2000);
  expect([asked.length, states.at(-1)]).toEqual([2, true]);
  await vi.advanceTimersByTimeAsync(SILENCE_MS);
  expect([asked.length, states.at(-1)]).toEqual([3, false]);
  expect(asked[2]?.['last-event-id']).toBe('e-2');
  leaving.abort();
  await ended;
});
