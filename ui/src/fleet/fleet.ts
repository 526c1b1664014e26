/** Guests as `GET /v1/vms` gives them, and what can be done with them. */
import { v1, type Schemas } from '../shell/v1';
import { follow, type Listener } from './stream';

export type GuestState = Schemas['DomainState'];

export type Guest = Pick<
  Schemas['VmView'],
  'host' | 'host_state' | 'age_seconds' | 'id' | 'name' | 'state' | 'graphics' | 'record'
>;

export type Verb = 'start' | 'shutdown' | 'poweroff';

/** True while the guest has a process. */
export const isActive = (state: GuestState): boolean => !['shut_off', 'crashed', 'no_state'].includes(state);

const VM = '/v1/hosts/{host}/vms/{vm}';
const parts = ({ host, id }: Guest): { host: string; vm: string } => ({ host, vm: id });

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
    return v1('get', '/v1/vms', { token: this.token, ...(signal && { signal }) });
  }

  /** What changes in the list, as it changes. */
  follow(signal: AbortSignal, to: Listener): Promise<void> {
    return follow('/v1/events?topics=vm,host', this.token, signal, to);
  }

  /** Does it, and waits for the end as long as the gateway holds the answer. */
  act(guest: Guest, verb: Verb): Promise<Schemas['OperationRecord']> {
    return v1('post', `${VM}/${verb}`, { path: parts(guest), query: { wait_ms: 20000 }, token: this.token });
  }

  /** Addresses that the host knows now, without those of the link alone when there are others. */
  async addresses(guest: Guest): Promise<string[]> {
    const interfaces = await v1('get', `${VM}/addresses`, { path: parts(guest), token: this.token });
    const all = interfaces.flatMap((each) => each.addresses.map(({ address }) => address.replace(/\/\d+$/, '')));
    const wide = all.filter((address) => !/^(fe80:|127\.|::1$)/i.test(address));
    return wide.length > 0 ? wide : all;
  }

  /** A ticket and the page that takes it. */
  console(guest: Guest, kind: Schemas['ConsoleKind']): Promise<Schemas['ConsoleTicket']> {
    return v1('post', `${VM}/console`, { path: parts(guest), token: this.token, body: { kind } });
  }

  async logOut(): Promise<void> {
    await v1('delete', '/v1/session', { token: this.token });
  }
}

export function logIn(username: string, password: string): Promise<Schemas['Session']> {
  return v1('post', '/v1/session', { body: { username, password } });
}
