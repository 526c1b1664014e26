/** `KeyboardEvent.code` to PC/AT scan codes of set 1, as SPICE sends them: a leading 0xe0 is the low byte. */
const ROWS: [first: number, codes: string][] = [
  [0x01, 'Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace'],
  [0x0f, 'Tab KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter'],
  [0x1d, 'ControlLeft KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote'],
  [0x2a, 'ShiftLeft Backslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight'],
  [0x38, 'AltLeft Space CapsLock F1 F2 F3 F4 F5 F6 F7 F8 F9 F10'],
  [0x56, 'IntlBackslash F11 F12'],
];

const EXTENDED: Record<string, number> = { AltRight: 0x38, Delete: 0x53, MetaLeft: 0x5b, PrintScreen: 0x37 };

const SCANCODES = new Map<string, number>(
  ROWS.flatMap(([first, codes]) => codes.split(' ').map((code, n): [string, number] => [code, first + n])),
);

/** Press and release codes of a key; nothing for keys that a pasted text or the menu never needs. */
export function scancode(code: string): { down: number; up: number } | undefined {
  const extended = EXTENDED[code];
  if (extended !== undefined) return { down: 0xe0 | (extended << 8), up: 0xe0 | ((extended | 0x80) << 8) };
  const plain = SCANCODES.get(code);
  return plain === undefined ? undefined : { down: plain, up: plain | 0x80 };
}
