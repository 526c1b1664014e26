/** Calls of the API, and what its failures say. */

/** RFC 9457, as every service answers it; the seed's envelope and network failures are brought into this form. */
export class Problem extends Error {
  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** Stable code; `network` when no answer came. */
    readonly code: string,
    detail: string,
    readonly hint = '',
    readonly requestId = '',
  ) {
    super(detail);
    this.name = 'Problem';
  }
}

export interface Call {
  method?: 'GET' | 'POST' | 'DELETE';
  token?: string;
  body?: unknown;
  signal?: AbortSignal;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Reads a failure body of either face of the API; anything else keeps its status at least. */
export function problemOf(status: number, body: unknown): Problem {
  const from = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const detail = text(from['detail']) || text(from['desc']) || text(from['title']) || `HTTP ${status}`;
  const code = text(from['code']) || `http_${status}`;
  return new Problem(status, code, detail, text(from['hint']), text(from['request_id']));
}

/** Asks and gives the answer's JSON, or throws a {@link Problem}. */
export async function call<T>(path: string, how: Call = {}): Promise<T> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (how.token !== undefined) headers['authorization'] = `Bearer ${how.token}`;
  if (how.body !== undefined) headers['content-type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(path, {
      method: how.method ?? 'GET',
      headers,
      body: how.body === undefined ? null : JSON.stringify(how.body),
      signal: how.signal ?? null,
      // No cookie authorises anything, so none is sent.
      credentials: 'omit',
      cache: 'no-store',
    });
  } catch (error) {
    if (how.signal?.aborted) throw error;
    throw new Problem(0, 'network', String(error instanceof Error ? error.message : error));
  }
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw problemOf(response.status, body);
  return body as T;
}
