/** xterm.js on a serial line that is counted, so that nothing is lost or shown twice. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';

import type { Tell } from '../connection';
import type { Driver, Tools } from '../driver';
import { openSocket, type Resumable } from '../exchange';
import type { Combination, Stroke } from '../keys';
import { LineOffset } from './offset';

/** The line's bytes go to the terminal as they are; it decodes UTF-8 across messages itself. */
export class SerialDriver implements Driver {
  private readonly terminal = new Terminal({
    cursorBlink: true,
    scrollback: 10_000,
    fontFamily: 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace',
    fontSize: 14,
  });
  private readonly fitting = new FitAddon();
  private readonly resized = new ResizeObserver(() => this.fitting.fit());
  private readonly offset = new LineOffset();
  private readonly encoder = new TextEncoder();
  private socket: WebSocket | undefined;
  private view = false;

  constructor(
    place: HTMLElement,
    private readonly tools: Tools,
  ) {
    this.terminal.loadAddon(this.fitting);
    this.terminal.open(place);
    this.terminal.onData((text) => this.send(this.encoder.encode(text)));
    this.terminal.onBinary((text) => this.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    this.terminal.attachCustomKeyEventHandler((event) => !this.copies(event));
    this.resized.observe(place);
    this.fitting.fit();
  }

  attach(grant: Resumable, tell: Tell): void {
    const socket = openSocket(grant, `from=${this.offset.next}`);
    this.socket = socket;
    socket.addEventListener('close', (event) => tell.ended(event.code, event.reason));
    socket.addEventListener('open', tell.connected);
    socket.addEventListener('message', (event: MessageEvent<string | ArrayBuffer>) => {
      if (this.socket !== socket) return;
      if (typeof event.data === 'string') this.note(event.data);
      else this.take(new Uint8Array(event.data));
    });
  }

  private note(text: string): void {
    const lost = this.offset.begin(text);
    if (lost > 0) this.terminal.write(`\r\n${this.tools.lost(lost)}\r\n`);
  }

  private take(bytes: Uint8Array): void {
    this.terminal.write(this.offset.take(bytes));
  }

  private send(bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.view && this.socket?.readyState === WebSocket.OPEN) this.socket.send(bytes);
  }

  /** Ctrl-Shift-C copies as in every terminal; Ctrl-Shift-V is the browser's own paste. */
  private copies(event: KeyboardEvent): boolean {
    if (!(event.ctrlKey && event.shiftKey)) return false;
    if (event.code === 'KeyC' && event.type === 'keydown') {
      event.preventDefault();
      void navigator.clipboard?.writeText(this.terminal.getSelection());
    }
    return event.code === 'KeyC' || event.code === 'KeyV';
  }

  detach(): void {
    const { socket } = this;
    this.socket = undefined;
    socket?.close();
  }

  viewOnly(on: boolean): void {
    this.view = on;
    this.terminal.options.disableStdin = on;
  }

  focus(): void {
    this.terminal.focus();
  }

  combination({ label }: Combination): void {
    const control = /^Ctrl-(.)$/.exec(label)?.[1];
    this.send(new Uint8Array([control === undefined ? 0x1b : control.charCodeAt(0) & 0x1f]));
  }

  /** A serial line carries text, not keys; see {@link plainText}. */
  type(_: Stroke): void {}

  plainText(text: string): void {
    this.send(this.encoder.encode(text === '\n' ? '\r' : text));
  }

  selection(): string {
    return this.terminal.getSelection();
  }

  dispose(): void {
    this.detach();
    this.resized.disconnect();
    this.terminal.dispose();
  }
}
