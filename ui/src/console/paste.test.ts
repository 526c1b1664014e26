import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { paced } from './paste';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const scene = (items: string) => {
  const sent: string[] = [];
  const abort = new AbortController();
  const done = paced({
    items: Array.from(items),
    send: (item) => sent.push(item),
    delayMs: 30,
    signal: abort.signal,
    progress: () => undefined,
  });
  return { sent, abort, done };
};

it('keeps its pace and tells how many went', async () => {
  const { sent, done } = scene('abc');
  expect(sent).toEqual(['a']);
  await vi.advanceTimersByTimeAsync(29);
  expect(sent).toEqual(['a']);
  await vi.advanceTimersByTimeAsync(31);
  expect(sent.join('')).toBe('abc');
  await expect(done).resolves.toBe(3);
});

it('stops at once when told to', async () => {
  const { sent, abort, done } = scene('abcdef');
  await vi.advanceTimersByTimeAsync(30);
  abort.abort();
  await expect(done).resolves.toBe(2);
  await vi.advanceTimersByTimeAsync(1000);
  expect(sent.join('')).toBe('ab');
});
