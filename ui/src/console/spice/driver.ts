/** spice-html5, unmodified, in this chunk and no other (it is LGPL; see docs/ui.md). */
import { SpiceMainConn } from '@spice-project/spice-html5';
import { Constants } from '@spice-project/spice-html5/src/enums.js';
import { SpiceMiniData, SpiceMsgcKeyDown, SpiceMsgcKeyUp } from '@spice-project/spice-html5/src/spicemsg.js';

import type { Tell } from '../connection';
import type { Driver, Tools } from '../driver';
import type { Resumable } from '../exchange';
import { pressesOf, type Combination, type Stroke } from '../keys';
import { scancode } from './scancodes';
import { ChannelSocket } from './socket';

const SCREEN = 'spice-screen';

export class SpiceDriver implements Driver {
  private readonly screen = document.createElement('div');
  private main: SpiceMainConn | undefined;
  private view = false;

  constructor(
    place: HTMLElement,
    private readonly tools: Tools,
  ) {
    this.screen.id = SCREEN;
    this.screen.tabIndex = 0;
    place.append(this.screen);
    place.classList.add('scrolls');
    // Input of a watcher stays here; the proxy drops it in any case.
    for (const name of ['keydown', 'keyup', 'mousedown', 'mouseup', 'mousemove', 'wheel']) {
      this.screen.addEventListener(name, (event) => this.view && event.stopPropagation(), { capture: true });
    }
    window.WebSocket = ChannelSocket as unknown as typeof WebSocket;
  }

  attach(grant: Resumable, tell: Tell): void {
    // The first channel, main, takes the ticket that is here; the others get theirs.
    let first: Resumable | undefined = grant;
    let over = false;
    const ended = (code: number, reason: string) => {
      if (over) return;
      over = true;
      tell.ended(code, reason);
    };
    ChannelSocket.source = {
      next: () => {
        const ticket = first;
        first = undefined;
        return ticket === undefined ? this.tools.nextTicket() : Promise.resolve(ticket);
      },
      closed: ended,
      refused: (problem) => ended(1011, problem.message),
    };
    this.main = new SpiceMainConn({
      uri: new URL(grant.ticket.websocket, location.origin).href,
      screen_id: SCREEN,
      password: '',
      onsuccess: tell.connected,
      onerror: (error) => ended(1011, String(error)),
    });
  }

  detach(): void {
    const { main } = this;
    this.main = undefined;
    ChannelSocket.source = undefined;
    main?.stop();
    this.screen.replaceChildren();
  }

  viewOnly(on: boolean): void {
    this.view = on;
  }

  focus(): void {
    (this.screen.querySelector('canvas') ?? this.screen).focus();
  }

  private key(code: string, down: boolean): void {
    const codes = scancode(code);
    const inputs = this.main?.inputs;
    if (codes === undefined || inputs?.state !== 'ready' || this.view) return;
    const key = down ? new SpiceMsgcKeyDown() : new SpiceMsgcKeyUp();
    key.code = down ? codes.down : codes.up;
    const message = new SpiceMiniData();
    message.build_msg(down ? Constants.SPICE_MSGC_INPUTS_KEY_DOWN : Constants.SPICE_MSGC_INPUTS_KEY_UP, key);
    inputs.send_msg(message);
  }

  combination({ keys }: Combination): void {
    for (const { code } of keys) this.key(code, true);
    for (const { code } of keys.toReversed()) this.key(code, false);
  }

  type(stroke: Stroke): void {
    for (const { code, down } of pressesOf(stroke)) this.key(code, down);
  }

  screenshot(): Promise<Blob | null> {
    const canvas = this.screen.querySelector('canvas');
    return new Promise((resolve) => (canvas ? canvas.toBlob(resolve, 'image/png') : resolve(null)));
  }

  dispose(): void {
    this.detach();
    this.screen.remove();
  }
}
