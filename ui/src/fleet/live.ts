/** The list of guests, kept as the gateway's events say. */
import type { Schemas } from '../shell/v1';
import type { Guest } from './fleet';

export interface Change {
  event: string;
  data: unknown;
}

/** The guests after a change. The very same list where it says nothing of guests. */
export function applied(guests: Guest[], { event, data }: Change): Guest[] {
  switch (event) {
    case 'vm': {
      const guest = data as Guest;
      const at = guests.findIndex(({ host, id }) => host === guest.host && id === guest.id);
      return at < 0 ? [...guests, guest] : guests.with(at, guest);
    }
    case 'vm_removed': {
      const gone = data as Schemas['VmRemoved'];
      return guests.filter(({ host, id }) => host !== gone.host || id !== gone.id);
    }
    case 'host': {
      const { host, state, age_seconds } = data as Schemas['HostChanged'];
      return guests.map((guest) => (guest.host === host ? { ...guest, host_state: state, age_seconds } : guest));
    }
    case 'host_removed':
      return guests.filter(({ host }) => host !== (data as Schemas['HostRemoved']).host);
    default:
      return guests;
  }
}

/**
 * Brings lists and changes together: what changes while a list is being read may be newer than that
 * list, so it is applied once more when the list is there. All of a guest comes with each change, so
 * the newest one is what stays.
 */
export class LiveList {
  /** Of each list that is being read, what changed since it was asked for. */
  #reading = new Set<Change[]>();

  async read(ask: () => Promise<Guest[]>): Promise<Guest[]> {
    const changes: Change[] = [];
    this.#reading.add(changes);
    try {
      const guests = await ask();
      return changes.reduce(applied, guests);
    } finally {
      this.#reading.delete(changes);
    }
  }

  /** The list that is shown, after a change. */
  take(guests: Guest[] | undefined, change: Change): Guest[] | undefined {
    for (const changes of this.#reading) changes.push(change);
    return guests && applied(guests, change);
  }
}
