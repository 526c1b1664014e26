/**
 * SPICE has a connection for each channel (main, display, inputs, cursor, ...), and spice-html5 opens
 * them itself with `new WebSocket(uri, 'binary')`. Each needs a ticket of its own; so on this page
 * `WebSocket` is this class, which gets a ticket first and then passes everything on.
 */
import { Problem } from '../../shell/api';
import { openSocket, type Resumable } from '../exchange';

/** Where the page's sockets get their tickets; set before spice-html5 is told to connect. */
export interface Source {
  next: () => Promise<Resumable>;
  closed: (code: number, reason: string) => void;
  refused: (problem: Problem) => void;
}

export class ChannelSocket extends EventTarget {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSING = 2;
  static readonly CLOSED = 3;
  static source: Source | undefined;

  readonly url: string;
  binaryType: BinaryType = 'arraybuffer';
  private socket: WebSocket | undefined;
  private state: number = ChannelSocket.CONNECTING;

  constructor(url: string) {
    super();
    this.url = url;
    const { source } = ChannelSocket;
    if (source === undefined) throw new Error('no source of tickets');
    source.next().then(
      (grant) => this.open(openSocket(grant), source),
      (error: unknown) => {
        this.state = ChannelSocket.CLOSED;
        source.refused(error instanceof Problem ? error : new Problem(400, 'internal', String(error)));
      },
    );
  }

  private open(socket: WebSocket, source: Source): void {
    if (this.state !== ChannelSocket.CONNECTING) return socket.close();
    this.socket = socket;
    socket.addEventListener('open', () => this.dispatchEvent(new Event('open')));
    socket.addEventListener('message', ({ data }: MessageEvent<ArrayBuffer>) =>
      this.dispatchEvent(new MessageEvent('message', { data })),
    );
    socket.addEventListener('close', ({ code, reason }) => {
      if (this.state === ChannelSocket.CLOSED) return;
      this.state = ChannelSocket.CLOSED;
      source.closed(code, reason);
      this.dispatchEvent(new CloseEvent('close', { code, reason }));
    });
  }

  get readyState(): number {
    return this.socket?.readyState ?? this.state;
  }

  send(data: ArrayBuffer): void {
    if (this.socket?.readyState === ChannelSocket.OPEN) this.socket.send(data);
  }

  close(): void {
    this.state = ChannelSocket.CLOSED;
    this.socket?.close();
  }
}
