/**
 * Text as keystrokes: which key of the guest's keyboard gives a character. A guest sees keys, not
 * characters, so what comes out depends on the layout that the guest has set.
 */

/** One key with its modifiers. */
export interface Stroke {
  /** `KeyboardEvent.code` of the key. */
  code: string;
  /** X11 keysym of the character (RFB's way to name keys). */
  keysym: number;
  shift: boolean;
  altgr: boolean;
}

export interface Typing {
  strokes: Stroke[];
  /** Characters that the layout has no key for, each once. */
  missing: string[];
}

export const LAYOUTS = ['us', 'gb', 'de', 'fr'] as const;
export type Layout = (typeof LAYOUTS)[number];

/** The keys that differ between layouts, row by row. */
const CODES = [
  'Backquote Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal',
  'KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight',
  'KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backslash',
  'IntlBackslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash',
]
  .join(' ')
  .split(' ');

/** Per layout: plain, with shift, with AltGr; in the order of the codes, a space where there is nothing (or a dead key). */
const LEVELS: Record<Layout, [string, string, string]> = {
  us: [
    "`1234567890-=qwertyuiop[]asdfghjkl;'\\ zxcvbnm,./",
    '~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"| ZXCVBNM<>?',
    '',
  ],
  gb: [
    "`1234567890-=qwertyuiop[]asdfghjkl;'#\\zxcvbnm,./",
    '¬!"£$%^&*()_+QWERTYUIOP{}ASDFGHJKL:@~|ZXCVBNM<>?',
    '¦   €',
  ],
  de: [
    ' 1234567890ß qwertzuiopü+asdfghjklöä#<yxcvbnm,.-',
    '°!"§$%&/()=? QWERTZUIOPÜ*ASDFGHJKLÖÄ\'>YXCVBNM;:_',
    '       {[]}\\ @ €        ~            |      µ   ',
  ],
  fr: [
    '²&é"\'(-è_çà)=azertyuiop $qsdfghjklmù*<wxcvbn,;:!',
    ' 1234567890°+AZERTYUIOP £QSDFGHJKLM%µ>WXCVBN?./§',
    '  ~#{[|`\\^@]}  €        ¤',
  ],
};

/** Same on all layouts. */
const COMMON: [string, string, number][] = [
  [' ', 'Space', 0x20],
  ['\n', 'Enter', 0xff0d],
  ['\t', 'Tab', 0xff09],
];

/** X11's rule: Latin-1 as it is, everything else with the Unicode mark. */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  const latin1 = (point >= 0x20 && point <= 0x7e) || (point >= 0xa0 && point <= 0xff);
  return latin1 ? point : 0x01000000 | point;
}

function table(layout: Layout): Map<string, Stroke> {
  const keys = new Map<string, Stroke>();
  for (const [character, code, keysym] of COMMON) {
    keys.set(character, { code, keysym, shift: false, altgr: false });
  }
  LEVELS[layout].forEach((level, index) => {
    Array.from(level).forEach((character, at) => {
      const code = CODES[at];
      if (code === undefined || keys.has(character)) return;
      keys.set(character, { code, keysym: keysymOf(character), shift: index === 1, altgr: index === 2 });
    });
  });
  return keys;
}

/** The keystrokes of a text; line ends of any form become one Enter. */
export function strokesOf(text: string, layout: Layout): Typing {
  const keys = table(layout);
  const strokes: Stroke[] = [];
  const missing = new Set<string>();
  for (const character of text.replace(/\r\n?/g, '\n')) {
    const stroke = keys.get(character);
    if (stroke === undefined) missing.add(character);
    else strokes.push(stroke);
  }
  return { strokes, missing: [...missing] };
}

export const SHIFT = { code: 'ShiftLeft', keysym: 0xffe1 };
export const ALTGR = { code: 'AltRight', keysym: 0xfe03 };

/** Presses and releases of one stroke, in order. */
export function pressesOf(stroke: Stroke): { code: string; keysym: number; down: boolean }[] {
  const held = [...(stroke.shift ? [SHIFT] : []), ...(stroke.altgr ? [ALTGR] : [])];
  const key = { code: stroke.code, keysym: stroke.keysym };
  return [
    ...held.map((k) => ({ ...k, down: true })),
    { ...key, down: true },
    { ...key, down: false },
    ...held.reverse().map((k) => ({ ...k, down: false })),
  ];
}

/** A combination of the menu: keys pressed in order, released in reverse. */
export interface Combination {
  label: string;
  keys: { code: string; keysym: number }[];
}

const CTRL = { code: 'ControlLeft', keysym: 0xffe3 };
const ALT = { code: 'AltLeft', keysym: 0xffe9 };
const DELETE = { code: 'Delete', keysym: 0xffff };
const f = (n: number) => ({ code: `F${n}`, keysym: 0xffbd + n });

export const CTRL_ALT_DEL: Combination = { label: 'Ctrl-Alt-Del', keys: [CTRL, ALT, DELETE] };

export const COMBINATIONS: Combination[] = [
  { label: 'Ctrl-Alt-Backspace', keys: [CTRL, ALT, { code: 'Backspace', keysym: 0xff08 }] },
  ...[1, 2, 3, 4, 5, 6, 7].map((n) => ({ label: `Ctrl-Alt-F${n}`, keys: [CTRL, ALT, f(n)] })),
  { label: 'Alt-Tab', keys: [ALT, { code: 'Tab', keysym: 0xff09 }] },
  { label: 'Alt-F4', keys: [ALT, f(4)] },
  { label: 'Ctrl-W', keys: [CTRL, { code: 'KeyW', keysym: 0x77 }] },
  { label: 'Super', keys: [{ code: 'MetaLeft', keysym: 0xffeb }] },
  { label: 'Esc', keys: [{ code: 'Escape', keysym: 0xff1b }] },
  { label: 'Print', keys: [{ code: 'PrintScreen', keysym: 0xff61 }] },
];

/** What a terminal cannot send when the browser or the system keeps the key. */
export const TERMINAL_COMBINATIONS: Combination[] = ['C', 'D', 'Z', '\\', ']', 'W'].map((letter) => ({
  label: `Ctrl-${letter}`,
  keys: [],
}));
TERMINAL_COMBINATIONS.push({ label: 'Esc', keys: [] });
