/**
 * Tenant links: `base64url("<host>/<uuid>?k=<key>&e=<epoch>")`, whole or in the address of the page.
 * Read strictly: a parameter that is missing, doubled or unknown makes it no link.
 */
export interface Link {
  host: string;
  vm: string;
  key: string;
  /** Seconds since 1970. */
  expires: number;
}

const FORM = /^([A-Za-z0-9._-]{1,64})\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\?k=([A-Za-z0-9_-]{16,128})&e=(\d{9,12})$/i;

function decode(token: string): string | undefined {
  if (!/^[A-Za-z0-9_-]+={0,2}$/.test(token)) return undefined;
  try {
    return atob(token.replace(/=+$/, '').replace(/-/g, '+').replace(/_/g, '/'));
  } catch {
    return undefined;
  }
}

/** Reads a token, in either of its forms. */
export function parseToken(token: string): Link | undefined {
  const found = FORM.exec(token) ?? FORM.exec(decode(token) ?? '');
  if (found === null) return undefined;
  const [, host = '', vm = '', key = '', epoch = ''] = found;
  return { host, vm: vm.toLowerCase(), key, expires: Number(epoch) };
}

/** Reads what somebody pasted: a token, or an address that has one. */
export function parsePasted(text: string): { token: string; link: Link } | undefined {
  const trimmed = text.trim();
  const token = /[?#&]token=([^&#\s]+)/.exec(trimmed)?.[1] ?? trimmed;
  const link = parseToken(token);
  return link && { token, link };
}

/**
 * Takes the token of the page's own address. `?token=` reached the server once; it is moved into
 * the fragment, which does not, so that reloading and bookmarking keep working without that.
 */
export function takeToken(): string | undefined {
  const query = new URLSearchParams(location.search).getAll('token');
  const fragment = new URLSearchParams(location.hash.slice(1)).getAll('token');
  const all = [...query, ...fragment];
  const token = all.length === 1 ? all[0] : undefined;
  if (query.length > 0) keepToken(token);
  return token;
}

export function keepToken(token: string | undefined): void {
  history.replaceState(null, '', location.pathname + (token === undefined ? '' : `#token=${token}`));
}
