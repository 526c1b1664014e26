/** Tickets: one for each websocket, and the secret that gets the next one. Both live in memory only. */
import { Problem } from '../shell/api';
import { v1, type Schemas } from '../shell/v1';

export type Mode = Schemas['ConsoleMode'];
export type Ticket = Pick<Schemas['ConsoleTicket'], 'ticket' | 'websocket' | 'kind' | 'mode'>;
export type Resumable = Omit<Schemas['ConsoleResumable'], 'ticket'> & { ticket: Ticket };

/** The browser's own; the SPICE page puts another one in its place later. */
const BrowserSocket = WebSocket;

type Ask = (body: Schemas['ConsoleExchange']) => Promise<Resumable>;

const ask: Ask = (body) => v1('post', '/v1/console/exchange', { body });

/**
 * Gives a fresh ticket at each call. Calls are served one after the other, because each exchange
 * uses up what the one before gave; for the same reason none is cut short: its answer would be lost.
 */
export class Tickets {
  private held: Schemas['ConsoleExchange'];
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
