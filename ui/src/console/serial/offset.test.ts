import { expect, it } from 'vitest';

import { LineOffset } from './offset';

const bytes = (n: number) => new Uint8Array(n);

it('comes back at the byte after the last one', () => {
  const line = new LineOffset();
  expect(line.next).toBe(0);
  expect(line.begin('{"offset":0}')).toBe(0);
  line.take(bytes(10));
  line.take(bytes(5));
  expect(line.next).toBe(15);
  expect(line.begin('{"offset":15}')).toBe(0);
  line.take(bytes(1));
  expect(line.next).toBe(16);
});

it('tells what the host no longer keeps', () => {
  const line = new LineOffset();
  expect(line.begin('{"offset":4096}')).toBe(4096);
  line.take(bytes(4));
  expect(line.begin('{"offset":5000}')).toBe(900);
  expect(line.next).toBe(5000);
});

it('follows a line that began anew', () => {
  const line = new LineOffset();
  line.begin('{"offset":0}');
  line.take(bytes(100));
  expect(line.begin('{"offset":0}')).toBe(0);
  line.take(bytes(7));
  expect(line.next).toBe(7);
});

it.each(['', 'nonsense', '{}', '{"offset":-1}', '{"offset":"5"}', '{"offset":1e300}', 'null'])(
  'is not led astray by %j',
  (message) => {
    const line = new LineOffset();
    line.begin('{"offset":0}');
    line.take(bytes(3));
    expect(line.begin(message)).toBe(0);
    expect(line.next).toBe(3);
  },
);
