/** Types at a pace that guests keep up with, until done or told to stop. */

const pause = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });

export interface Pace<T> {
  items: readonly T[];
  send: (item: T) => void;
  delayMs: number;
  signal: AbortSignal;
  progress: (sent: number) => void;
}

/** Sends the items one by one; gives how many were sent. */
export async function paced<T>({ items, send, delayMs, signal, progress }: Pace<T>): Promise<number> {
  let sent = 0;
  for (const item of items) {
    if (signal.aborted) break;
    send(item);
    sent += 1;
    progress(sent);
    if (sent < items.length) await pause(delayMs, signal);
  }
  return sent;
}
