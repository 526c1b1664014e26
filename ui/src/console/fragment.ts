/**
 * What opens a console page: `#host=..&vm=..&ticket=..`. It is in the fragment, which no server and
 * no log sees, and it leaves the address bar (and the history) before anything else is done.
 */
export interface Opening {
  host: string;
  vm: string;
  ticket: string;
}

const HOST = /^[A-Za-z0-9._-]{1,64}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** As it may stand in `Sec-WebSocket-Protocol` (a token of RFC 9110). */
const TICKET = /^[A-Za-z0-9._~+-]{16,512}$/;

/** Reads a fragment; nothing when a part is missing, doubled or malformed. */
export function parseFragment(fragment: string): Opening | undefined {
  const fields = new URLSearchParams(fragment.replace(/^#/, ''));
  const only = (name: string, form: RegExp): string | undefined => {
    const values = fields.getAll(name);
    const value = values[0];
    return values.length === 1 && value !== undefined && form.test(value) ? value : undefined;
  };
  const host = only('host', HOST);
  const vm = only('vm', UUID);
  const ticket = only('ticket', TICKET);
  if (host === undefined || vm === undefined || ticket === undefined) return undefined;
  return { host, vm: vm.toLowerCase(), ticket };
}

/** Reads the page's own fragment, once, and clears it. */
export function takeOpening(): Opening | undefined {
  const opening = parseFragment(location.hash);
  history.replaceState(null, '', location.pathname);
  return opening;
}
