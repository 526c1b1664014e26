/** Server-sent events read by `fetch`: the token goes in a header, which `EventSource` has none of. */
import { Problem, problemOf } from '../shell/api';

export interface ServerEvent {
  event: string;
  id: string;
  data: string;
}

/** Reads a stream however it is cut. */
export class EventParser {
  /** Id of what came whole, to go on after; comments move it, too. */
  lastId = '';
  #id = '';
  #rest = '';
  #event = '';
  #data: string[] = [];

  push(text: string): ServerEvent[] {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.flatMap((line) => this.#take(line.replace(/\r$/, '')) ?? []);
  }

  #take(line: string): ServerEvent | undefined {
    if (line === '') {
      this.lastId = this.#id;
      const found = { event: this.#event || 'message', id: this.lastId, data: this.#data.join('\n') };
      const complete = this.#data.length > 0;
      this.#event = '';
      this.#data = [];
      return complete ? found : undefined;
    }
    const at = line.indexOf(':');
    const field = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    else if (field === 'id') this.#id = value;
    else if (field === 'data') this.#data.push(value);
    return undefined;
  }
}

export interface Listener {
  onEvent: (event: string, data: unknown) => void;
  /** True when events come, false when they do not for now. */
  onState: (live: boolean) => void;
}

/** The gateway says every 15 s that it lives; after three of these the stream is dead. */
export const SILENCE_MS = 45_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

const wait = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });

/**
 * Follows `path` until `signal`, or until the server refuses for good. A stream that breaks is opened
 * again where it was, after pauses that grow; a few pages do not come back in one instant.
 */
export async function follow(path: string, token: string, signal: AbortSignal, to: Listener): Promise<void> {
  const position = { last: '' };
  let pause = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    const ended = await once(path, token, signal, to, position, () => (pause = FIRST_PAUSE_MS)).catch((error: unknown) => error);
    if (signal.aborted) return;
    to.onState(false);
    // What is wrong with the login or the request will not get better; too much may.
    if (ended instanceof Problem && ended.status >= 400 && ended.status < 500 && ended.status !== 429) return;
    await wait(pause * (0.5 + Math.random() / 2), signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

/** One connection; throws what was wrong with it. */
async function once(
  path: string,
  token: string,
  outer: AbortSignal,
  to: Listener,
  position: { last: string },
  onOpen: () => void,
): Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  const end = () => over.abort();
  outer.addEventListener('abort', end);
  let timer = setTimeout(end, SILENCE_MS);
  try {
    const headers: Record<string, string> = { accept: 'text/event-stream', authorization: `Bearer ${token}` };
    if (position.last !== '') headers['last-event-id'] = position.last;
    const response = await fetch(path, { headers, signal, credentials: 'omit', cache: 'no-store' });
    if (!response.ok || response.body === null) {
      throw problemOf(response.status, await response.json().catch(() => undefined));
    }
    const reader = response.body.getReader();
    const [text, parser] = [new TextDecoder(), new EventParser()];
    for (;;) {
      const { done, value } = await reader.read();
      if (done || outer.aborted) return;
      clearTimeout(timer);
      timer = setTimeout(end, SILENCE_MS);
      for (const { event, data } of parser.push(text.decode(value, { stream: true }))) to.onEvent(event, JSON.parse(data));
      if (parser.lastId !== '') position.last = parser.lastId;
      onOpen();
      to.onState(true);
    }
  } finally {
    clearTimeout(timer);
    outer.removeEventListener('abort', end);
    end();
  }
}
