import { expect, it } from 'vitest';

import { COMBINATIONS, CTRL_ALT_DEL, LAYOUTS, pressesOf, strokesOf } from '../keys';
import { scancode } from './scancodes';

it('knows the codes of a PC keyboard', () => {
  expect(scancode('KeyA')).toEqual({ down: 0x1e, up: 0x9e });
  expect(scancode('Slash')?.down).toBe(0x35);
  expect(scancode('F12')?.down).toBe(0x58);
  expect(scancode('Delete')).toEqual({ down: 0x53e0, up: 0xd3e0 });
});

it('has every key that the menu and a pasted text need', () => {
  const text = Array.from({ length: 224 }, (_, n) => String.fromCharCode(32 + n)).join('') + '\n\t€';
  const keys = LAYOUTS.flatMap((layout) => strokesOf(text, layout).strokes.flatMap(pressesOf));
  for (const { code } of [...keys, ...COMBINATIONS.flatMap((c) => c.keys), ...CTRL_ALT_DEL.keys]) {
    expect(scancode(code), code).toBeDefined();
  }
});
