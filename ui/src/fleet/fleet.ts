/** Guests as `GET /v1/vms` gives them, and what can be done with them. */
import { call } from '../shell/api';
import type { Ticket } from '../console/exchange';

export type GuestState =
  | 'no_state'
  | 'running'
  | 'blocked'
  | 'paused'
  | 'shutting_down'
  | 'shut_off'
  | 'crashed'
  | 'suspended';

export interface Guest {
  host: string;
  host_state: string;
  age_seconds: number;
  id: string;
  name: string;
  state: GuestState;
  graphics?: 'vnc' | 'spice' | string;
  record: { ipaddr?: string };
}

export type Verb = 'start' | 'shutdown' | 'poweroff';

interface Operation {
  id: string;
  state: string;
  problem?: unknown;
}

/** True while the guest has a process. */
export const isActive = (state: GuestState): boolean => !['shut_off', 'crashed', 'no_state'].includes(state);

export const pathOf = (guest: Pick<Guest, 'host' | 'id'>): string =>
  `/v1/hosts/${encodeURIComponent(guest.host)}/vms/${guest.id}`;

/** A guest's name as people know it: libvirt's has the id behind it, to be unique. */
export const shortName = ({ name, id }: Pick<Guest, 'name' | 'id'>): string =>
  name.endsWith(`-${id}`) ? name.slice(0, -id.length - 1) : name;

/** Guests that have all words of the filter in what the table shows. */
export function matching(guests: Guest[], filter: string, label: (state: GuestState) => string): Guest[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return guests.filter((guest) => {
    const shown = [guest.host, guest.name, guest.id, label(guest.state), guest.record.ipaddr ?? ''].join(' ');
    return words.every((word) => shown.toLowerCase().includes(word));
  });
}

export class Fleet {
  constructor(private readonly token: string) {}

  guests(signal?: AbortSignal): Promise<Guest[]> {
    return call<Guest[]>('/v1/vms', { token: this.token, ...(signal && { signal }) });
  }

  /** Does it, and waits for the end as long as the gateway holds the answer. */
  act(guest: Guest, verb: Verb): Promise<Operation> {
    return call<Operation>(`${pathOf(guest)}/${verb}?wait_ms=20000`, { method: 'POST', token: this.token });
  }

  /** Addresses that the host knows now, without those of the link alone when there are others. */
  async addresses(guest: Guest): Promise<string[]> {
    const interfaces = await call<{ addresses: { address: string }[] }[]>(`${pathOf(guest)}/addresses`, {
      token: this.token,
    });
    const all = interfaces.flatMap((each) => each.addresses.map(({ address }) => address.replace(/\/\d+$/, '')));
    const wide = all.filter((address) => !/^(fe80:|127\.|::1$)/i.test(address));
    return wide.length > 0 ? wide : all;
  }

  /** A ticket and the page that takes it. */
  console(guest: Guest, kind: Ticket['kind']): Promise<Ticket & { page: string }> {
    return call(`${pathOf(guest)}/console`, { method: 'POST', token: this.token, body: { kind } });
  }

  logOut(): Promise<void> {
    return call('/v1/session', { method: 'DELETE', token: this.token });
  }
}

export function logIn(username: string, password: string): Promise<{ token: string; expires_in: number }> {
  return call('/v1/session', { method: 'POST', body: { username, password } });
}
