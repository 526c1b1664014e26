import { describe, expect, it } from 'vitest';

import { LAYOUTS, pressesOf, strokesOf, type Layout } from './keys';

const typed = (text: string, layout: Layout = 'us') =>
  strokesOf(text, layout).strokes.map(({ code, shift, altgr }) => `${shift ? 'S-' : ''}${altgr ? 'G-' : ''}${code}`);

describe('text as keystrokes', () => {
  it('covers all of ASCII on every layout', () => {
    const ascii = Array.from({ length: 95 }, (_, n) => String.fromCharCode(32 + n)).join('');
    for (const layout of LAYOUTS) {
      const dead = { us: [], gb: [], de: ['^', '`'], fr: [] }[layout];
      expect(strokesOf(ascii, layout).missing, layout).toEqual(dead);
    }
  });

  it('presses the key that has the character on the layout', () => {
    expect(typed('aZ#\\|@y')).toEqual(['KeyA', 'S-KeyZ', 'S-Digit3', 'Backslash', 'S-Backslash', 'S-Digit2', 'KeyY']);
    expect(typed('#\\|@"£€', 'gb')).toEqual([
      'Backslash', 'IntlBackslash', 'S-IntlBackslash', 'S-Quote', 'S-Digit2', 'S-Digit3', 'G-Digit4',
    ]);
    expect(typed('yzß@{\\~|€äÖ-_', 'de')).toEqual([
      'KeyZ', 'KeyY', 'Minus', 'G-KeyQ', 'G-Digit7', 'G-Minus', 'G-BracketRight', 'G-IntlBackslash', 'G-KeyE',
      'Quote', 'S-Semicolon', 'Slash', 'S-Slash',
    ]);
    expect(typed('aqzwm1é@\\{}', 'fr')).toEqual([
      'KeyQ', 'KeyA', 'KeyW', 'KeyZ', 'Semicolon', 'S-Digit1', 'Digit2', 'G-Digit0', 'G-Digit8', 'G-Digit4', 'G-Equal',
    ]);
  });

  it('makes one Enter of any line end', () => {
    expect(typed('a\r\nb\rc\nd\t')).toEqual(['KeyA', 'Enter', 'KeyB', 'Enter', 'KeyC', 'Enter', 'KeyD', 'Tab']);
  });

  it('names what has no key, once, and types nothing for it', () => {
    expect(strokesOf('中a中€\u0007', 'us')).toMatchObject({ missing: ['中', '€', '\u0007'], strokes: [{ code: 'KeyA' }] });
  });

  it('holds the modifiers around the key and lets go in reverse', () => {
    const [stroke] = strokesOf('A', 'us').strokes;
    expect(stroke && pressesOf(stroke).map(({ code, down }) => `${code}${down ? '+' : '-'}`)).toEqual([
      'ShiftLeft+', 'KeyA+', 'KeyA-', 'ShiftLeft-',
    ]);
    expect(stroke?.keysym).toBe(0x41);
    expect(strokesOf('€', 'de').strokes[0]?.keysym).toBe(0x010020ac);
  });
});
