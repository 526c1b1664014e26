/** The `/user/vm` routes and the shapes of their answers, which are those of the described system. */
import { call, problemOf } from '../shell/api';
import type { GuestState } from '../fleet/fleet';
import type { Link } from './link';

export type Verb = 'start' | 'reset' | 'stop';

interface Envelope {
  result?: string;
  [key: string]: unknown;
}

export interface Guest {
  uuid: string;
  description: string;
  state: GuestState;
  vcpus: number;
  memoryMib: number;
  address: string;
  disks: { device: string; target: string; source: string }[];
}

export interface Iso {
  name: string;
  description: string;
}

/** Both spellings that the described system has had. */
const STATES: Record<string, GuestState> = {
  RUN: 'running',
  RUNNING: 'running',
  BLOCK: 'blocked',
  BLOCKED: 'blocked',
  PAUSED: 'paused',
  SHUTDOWN: 'shutting_down',
  SHUTOFF: 'shut_off',
  CRASH: 'crashed',
  CRASHED: 'crashed',
  SUSPEND: 'suspended',
};

/** Some values are JSON in a string in one version, and JSON in the other. */
function unpacked(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return undefined;
  }
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const number = (value: unknown): number => (Number.isFinite(Number(value)) ? Number(value) : 0);

/** One guest of `list`, bare or in an envelope. */
export function guestOf(answer: unknown): Guest {
  const outer = record(Array.isArray(answer) ? answer[0] : answer);
  const from = record(list(outer['guest'])[0] ?? outer);
  const config = record(unpacked(from['mdconfig']));
  return {
    uuid: text(from['uuid']),
    description: text(from['desc']),
    state: STATES[text(from['state']).toUpperCase()] ?? 'no_state',
    vcpus: number(from['curcpu']),
    memoryMib: Math.round(number(from['curmem']) / 1024),
    address: text(config['ipaddr']) || text(config['vm_ipaddr']),
    disks: list(unpacked(from['disks'])).map((disk) => {
      const { device, dev, vol } = record(disk);
      return { device: text(device), target: text(dev), source: text(vol) };
    }),
  };
}

/** `getiso`: a bare list, or one in an envelope. */
export function isosOf(answer: unknown): Iso[] {
  const all = Array.isArray(answer) ? answer : list(record(answer)['iso']);
  return all.map((iso) => ({ name: text(record(iso)['name']), description: text(record(iso)['desc']) }));
}

export class Tenant {
  constructor(private readonly link: Link) {}

  private async ask<T>(verb: string, more: Record<string, string> = {}, body?: unknown): Promise<T> {
    const { host, vm, key, expires } = this.link;
    const query = new URLSearchParams({ k: key, e: String(expires), ...more });
    const path = `/user/vm/${verb}/${encodeURIComponent(host)}/${vm}?${query}`;
    const answer = await call<T & Envelope>(path, body === undefined ? {} : { method: 'POST', body });
    // The described system says ERR with 200 at times.
    if (record(answer)['result'] === 'ERR') throw problemOf(400, answer);
    return answer;
  }

  async guest(): Promise<Guest> {
    return guestOf(await this.ask<unknown>('list'));
  }

  async power(verb: Verb, force = false): Promise<string> {
    return text((await this.ask<Envelope>(verb, force ? { force: 'true' } : {}))['desc']);
  }

  async isos(): Promise<Iso[]> {
    return isosOf(await this.ask<unknown>('getiso'));
  }

  async insert(drive: string, isoname: string): Promise<string> {
    return text((await this.ask<Envelope>('cdrom', { dev: drive }, { isoname }))['desc']);
  }

  /** Address of the page that shows the screen or the serial line. */
  async page(verb: 'display' | 'console'): Promise<string> {
    return text((await this.ask<Envelope>(verb))['display']);
  }
}
