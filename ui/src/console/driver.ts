/** What the console pages share beyond the connection: a driver is noVNC, spice-html5 or xterm.js. */
import type { Screen } from './connection';
import type { Resumable } from './exchange';
import type { Combination, Stroke } from './keys';

export interface Driver extends Screen {
  /** Input goes nowhere when set. */
  viewOnly(on: boolean): void;
  /** Scales to the window, or shows each pixel as it is and scrolls. */
  fit?(on: boolean): void;
  focus(): void;
  /** A combination of the menu. */
  combination(combination: Combination): void;
  /** One stroke of a pasted text. */
  type(stroke: Stroke): void;
  /** Text goes as it is, not as keys of a layout. */
  plainText?(text: string): void;
  /** What is shown now, as PNG. */
  screenshot?(): Promise<Blob | null>;
  /** What is selected. */
  selection?(): string;
  dispose(): void;
}

/** What a driver gets from its page. */
export interface Tools {
  /** Text for `count` bytes of the serial line that are lost for good. */
  lost: (count: number) => string;
  /** Another ticket of the same session. */
  nextTicket: () => Promise<Resumable>;
}

/** Makes a driver inside an element of the page. */
export type MakeDriver = (place: HTMLElement, tools: Tools) => Promise<Driver>;
