/** Moves a console session along: tickets, websocket, timer. What to do is decided in `session.ts`. */
import { Problem } from '../shell/api';
import { type Resumable, type Tickets } from './exchange';
import { START, next, type EndReason, type Event, type State } from './session';

/** What a page does with the connection: noVNC, spice-html5 or xterm.js. */
export interface Screen {
  /**
   * Uses the ticket. `ended` is called once with what the websocket's close said; `connected` when
   * the guest's console shows.
   */
  attach(grant: Resumable, tell: Tell): void;
  /** Ends the websocket; nothing is told after this. */
  detach(): void;
}

export interface Tell {
  connected: () => void;
  ended: (code: number, reason: string) => void;
}

export interface Watch {
  state: (state: State) => void;
  grant: (grant: Resumable) => void;
}

/** A page that stays away longer than this after a close is not worth a fresh count of attempts. */
const HELD_MS = 10_000;

export class Connection {
  private state: State = START;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private abort = new AbortController();
  private connectedAt = 0;
  private lastAttempt = 0;

  constructor(
    private readonly tickets: Tickets,
    private readonly screen: Screen,
    private readonly watch: Watch,
  ) {}

  start(): void {
    this.watch.state(this.state);
    void this.attempt();
  }

  reconnect(): void {
    this.step({ is: 'reconnect' });
  }

  disconnect(): void {
    this.step({ is: 'disconnect' });
  }

  /** Ends it for a reason that only the page sees. */
  fail(reason: EndReason, detail: string): void {
    this.step({ is: 'failed', reason, detail });
  }

  private step(event: Event): void {
    let from = this.state;
    // A connection that broke at once counts on; otherwise a proxy that accepts and drops would be asked without end.
    if (event.is === 'closed' && from.at === 'connected' && Date.now() - this.connectedAt < HELD_MS) {
      from = { at: 'starting', attempt: this.lastAttempt };
    }
    const to = next(from, event, Math.random());
    if (to === this.state) return;
    this.state = to;
    clearTimeout(this.timer);
    this.enter(to);
    this.watch.state(to);
  }

  private enter(state: State): void {
    switch (state.at) {
      case 'starting':
        this.lastAttempt = state.attempt;
        void this.attempt();
        return;
      case 'connected':
        this.connectedAt = Date.now();
        return;
      case 'waiting':
        this.screen.detach();
        this.timer = setTimeout(() => this.step({ is: 'timer' }), state.delayMs);
        return;
      case 'ended':
        this.abort.abort();
        this.screen.detach();
    }
  }

  private async attempt(): Promise<void> {
    this.abort.abort();
    const abort = (this.abort = new AbortController());
    this.screen.detach();
    try {
      const grant = await this.tickets.next();
      if (abort.signal.aborted) return;
      this.watch.grant(grant);
      // The page may have found fault with it.
      if (abort.signal.aborted) return;
      const mine = (event: Event) => {
        if (!abort.signal.aborted) this.step(event);
      };
      this.screen.attach(grant, {
        connected: () => mine({ is: 'connected' }),
        ended: (code, reason) => mine({ is: 'closed', code, reason }),
      });
    } catch (error) {
      if (abort.signal.aborted) return;
      const problem = error instanceof Problem ? error : new Problem(400, 'internal', String(error));
      this.step({ is: 'refused', problem });
    }
  }
}

