// A guest's screen, small: RFB 3.8 (RFC 6143) without security, raw encoding, one colour that changes with each key.

export const WIDTH = 320;
export const HEIGHT = 200;

const NAME = Buffer.from('mock');
const QEMU_KEYS = -258;
/** Length of a client message by type, or none when it depends on what is in it. */
const FIXED = { 0: 20, 3: 10, 4: 8, 5: 6 };

export class RfbServer {
  /** Keys that came, as `{keysym, code, down}`; `code` is the PC scan code where the client tells it. */
  keys = [];
  colour = [0x20, 0x80, 0xe0];
  #buffer = Buffer.alloc(0);
  #stage = 'version';
  #wanted = false;
  #send;

  constructor(send) {
    this.#send = send;
    send(Buffer.from('RFB 003.008\n'));
  }

  take(bytes) {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    for (let used = this.#step(); used > 0; used = this.#step()) this.#buffer = this.#buffer.subarray(used);
  }

  /** One message of the client; the number of bytes it had, 0 when it is not whole yet. */
  #step() {
    const has = (n) => this.#buffer.length >= n;
    switch (this.#stage) {
      case 'version':
        if (!has(12)) return 0;
        this.#send(Buffer.from([1, 1]));
        this.#stage = 'security';
        return 12;
      case 'security':
        if (!has(1)) return 0;
        this.#send(Buffer.alloc(4));
        this.#stage = 'init';
        return 1;
      case 'init':
        if (!has(1)) return 0;
        this.#send(serverInit());
        this.#stage = 'messages';
        return 1;
      default:
        return has(1) ? this.#message(this.#buffer) : 0;
    }
  }

  #message(b) {
    const length = lengthOf(b);
    if (length === 0 || b.length < length) return 0;
    if (b[0] === 2) this.#encodings(b);
    if (b[0] === 3) this.#update(b[1] === 1);
    if (b[0] === 4) this.#key({ down: b[1] === 1, keysym: b.readUInt32BE(4), code: 0 });
    if (b[0] === 255) this.#key({ down: b.readUInt16BE(2) === 1, keysym: b.readUInt32BE(4), code: b.readUInt32BE(8) });
    return length;
  }

  #encodings(b) {
    const known = Array.from({ length: b.readUInt16BE(2) }, (_, n) => b.readInt32BE(4 + 4 * n));
    if (known.includes(QEMU_KEYS)) this.#send(update([rectangle(QEMU_KEYS, 0, 0)]));
  }

  #update(incremental) {
    if (incremental && !this.changed) {
      this.#wanted = true;
      return;
    }
    this.changed = false;
    this.#wanted = false;
    const pixels = Buffer.alloc(WIDTH * HEIGHT * 4, Buffer.from([...this.colour, 0]));
    this.#send(update([rectangle(0, WIDTH, HEIGHT), pixels]));
  }

  #key(key) {
    this.keys.push(key);
    if (!key.down) return;
    this.colour = [(this.colour[0] + 40) & 0xff, this.colour[1], this.colour[2]];
    this.changed = true;
    if (this.#wanted) this.#update(true);
  }
}

function lengthOf(b) {
  const fixed = FIXED[b[0]];
  if (fixed !== undefined) return fixed;
  switch (b[0]) {
    case 2:
      return b.length < 4 ? 0 : 4 + 4 * b.readUInt16BE(2);
    case 6:
      return b.length < 8 ? 0 : 8 + Math.abs(b.readInt32BE(4));
    case 255:
      return 12;
    default:
      throw new Error(`unexpected RFB message ${b[0]}`);
  }
}

function serverInit() {
  const init = Buffer.alloc(24);
  init.writeUInt16BE(WIDTH, 0);
  init.writeUInt16BE(HEIGHT, 2);
  // 32 bits, depth 24, little endian, true colour; red, green, blue of 8 bits from bit 0.
  init.set([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16], 4);
  init.writeUInt32BE(NAME.length, 20);
  return Buffer.concat([init, NAME]);
}

function rectangle(encoding, width, height) {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(width, 4);
  head.writeUInt16BE(height, 6);
  head.writeInt32BE(encoding, 8);
  return head;
}

const update = (parts) => Buffer.concat([Buffer.from([0, 0, 0, 1]), ...parts]);
