/**
 * What opens a console page: `#host=..&vm=..&ticket=..`. It is in the fragment, which no server and
 * no log sees, and it leaves the address bar (and the history) before anything else is done.
 *
 * The addresses of the described system open the same pages: `?path=websockify/?token=..`, the token
 * being such a ticket.
 */
export interface Opening {
  ticket: string;
  /** Shown until the guest's name is known. */
  vm: string;
}

const HOST = /^[A-Za-z0-9._-]{1,64}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** As it may stand in `Sec-WebSocket-Protocol` (a token of RFC 9110). */
const TICKET = /^[A-Za-z0-9._~+-]{16,512}$/;

/** The one value of a field; nothing when it is missing, doubled or malformed. */
function only(fields: URLSearchParams, name: string, form: RegExp): string | undefined {
  const values = fields.getAll(name);
  const value = values[0];
  return values.length === 1 && value !== undefined && form.test(value) ? value : undefined;
}

/** Reads a fragment. */
export function parseFragment(fragment: string): Opening | undefined {
  const fields = new URLSearchParams(fragment.replace(/^#/, ''));
  const host = only(fields, 'host', HOST);
  const vm = only(fields, 'vm', UUID);
  const ticket = only(fields, 'ticket', TICKET);
  return host === undefined || vm === undefined || ticket === undefined ? undefined : { vm: vm.toLowerCase(), ticket };
}

/** Reads a query of the described system. */
export function parseQuery(query: string): Opening | undefined {
  const path = only(new URLSearchParams(query), 'path', /^[^?]*\?[^?]*$/);
  if (path === undefined) return undefined;
  const ticket = only(new URLSearchParams(path.slice(path.indexOf('?'))), 'token', TICKET);
  return ticket === undefined ? undefined : { vm: '', ticket };
}

/** Reads the page's own address, once, and clears it. */
export function takeOpening(): Opening | undefined {
  const opening = location.search === '' ? parseFragment(location.hash) : parseQuery(location.search);
  history.replaceState(null, '', location.pathname);
  return opening;
}
