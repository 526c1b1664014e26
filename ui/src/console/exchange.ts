/** Tickets: one for each websocket, and the secret that gets the next one. Both live in memory only. */
import { Problem, call } from '../shell/api';

export type Mode = 'share' | 'view' | 'take_over';

/** `ConsoleTicket` of the API. */
export interface Ticket {
  ticket: string;
  websocket: string;
  kind: 'vnc' | 'spice' | 'serial';
  mode: Mode;
}

/** `ConsoleResumable` of the API. */
export interface Resumable {
  ticket: Ticket;
  resume: string;
  host: string;
  vm: string;
  name: string;
}

/** The browser's own; the SPICE page puts another one in its place later. */
const BrowserSocket = WebSocket;

type Ask = (body: { ticket: string } | { resume: string }) => Promise<Resumable>;

const ask: Ask = (body) => call<Resumable>('/v1/console/exchange', { method: 'POST', body });

/**
 * Gives a fresh ticket at each call. Calls are served one after the other, because each exchange
 * uses up what the one before gave; for the same reason none is cut short: its answer would be lost.
 */
export class Tickets {
  private held: { ticket: string } | { resume: string };
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    ticket: string,
    private readonly exchange: Ask = ask,
  ) {
    this.held = { ticket };
  }

  next(): Promise<Resumable> {
    const mine = this.turn.then(async () => {
      const answer = await this.exchange(this.held);
      this.held = { resume: answer.resume };
      return answer;
    });
    this.turn = mine.catch(() => undefined);
    return mine;
  }
}

/** The websocket of a ticket; `query` is for serial lines. */
export function openSocket({ ticket }: Resumable, query = ''): WebSocket {
  const url = new URL(ticket.websocket, location.origin);
  // A ticket is for this site, whatever an answer says.
  if (url.host !== location.host) throw new Problem(0, 'internal', `unexpected websocket host ${url.host}`);
  url.protocol = location.protocol === 'http:' ? 'ws:' : 'wss:';
  url.search = query;
  const socket = new BrowserSocket(url, ['binary', `vmmgr.ticket.${ticket.ticket}`]);
  socket.binaryType = 'arraybuffer';
  return socket;
}
