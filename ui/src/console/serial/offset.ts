/**
 * Where a page is in the output of a serial line: the offset that it comes back with. The first
 * message of each websocket says where the host begins; all bytes after it are counted.
 */
export class LineOffset {
  private at = 0;

  /** Offset of the next byte that is wanted. */
  get next(): number {
    return this.at;
  }

  /**
   * Takes `{"offset": N}`; gives the number of bytes that are lost, because the host keeps only so
   * many. An offset before the wanted one is a line that began anew.
   */
  begin(message: string): number {
    const offset = offsetOf(message);
    if (offset === undefined) return 0;
    const lost = Math.max(0, offset - this.at);
    this.at = offset;
    return lost;
  }

  /** Counts bytes that came. */
  take(bytes: Uint8Array): Uint8Array {
    this.at += bytes.length;
    return bytes;
  }
}

function offsetOf(message: string): number | undefined {
  try {
    const { offset } = JSON.parse(message) as { offset?: unknown };
    return typeof offset === 'number' && Number.isSafeInteger(offset) && offset >= 0 ? offset : undefined;
  } catch {
    return undefined;
  }
}
