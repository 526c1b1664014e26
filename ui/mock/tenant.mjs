// The tenant's routes, in the shapes of the described system.
import { Refusal } from './refusal.mjs';

const STATES = { running: 'RUN', shut_off: 'SHUTOFF' };

export class Tenants {
  key = 'k'.repeat(22);
  medium = '';

  constructor(mock) {
    this.mock = mock;
  }

  /** Token of a link to a guest that ends then. */
  token(guest, expires, key = this.key) {
    return Buffer.from(`${guest.host}/${guest.id}?k=${key}&e=${expires}`).toString('base64url');
  }

  route({ method }, { pathname, searchParams }, body) {
    const [, verb, id] = /^\/user\/vm\/(\w+)\/host01\/([^/]+)$/.exec(pathname) ?? [];
    if (verb === undefined) return undefined;
    const guest = this.mock.guests.find((each) => each.id === id);
    const fail = (status, desc) => {
      throw Object.assign(new Refusal(status, '', desc), { envelope: { result: 'ERR', code: status, name: verb, desc } });
    };
    if (!guest || searchParams.get('k') !== this.key) fail(403, 'access denied');
    if (Number(searchParams.get('e')) < Date.now() / 1000) fail(410, 'Access expired');
    if (method !== (verb === 'cdrom' ? 'POST' : 'GET')) fail(405, 'wrong method');
    return this.act(verb, guest, searchParams, body) ?? fail(403, 'access denied');
  }

  /** The described system's address of a console. */
  page(guest, kind, page) {
    return `${page}?password=&path=websockify/%3Ftoken=${this.mock.ticket(guest, kind).ticket}`;
  }

  act(verb, guest, query, body) {
    const ok = (desc) => ({ result: 'OK', desc });
    switch (verb) {
      case 'list':
        return {
          uuid: guest.id,
          desc: '测试VM',
          state: STATES[guest.state],
          curcpu: 2,
          curmem: 2097152,
          mdconfig: JSON.stringify({ ipaddr: '192.168.168.2/32' }),
          disks: JSON.stringify([
            { device: 'disk', type: 'file', dev: 'vda', vol: '/storage/vda.raw' },
            { device: 'cdrom', type: 'https', dev: 'sda', vol: this.medium },
          ]),
          nets: '[]',
        };
      case 'start':
        guest.state = 'running';
        return ok(`${guest.id} start ok`);
      case 'stop':
        guest.state = 'shut_off';
        return ok(`${guest.id} ${query.get('force') ? 'force ' : ''}stop ok`);
      case 'reset':
        return ok(`${guest.id} reset ok`);
      case 'getiso':
        return [{ name: 'debian', uri: '/iso/debian.iso', desc: 'Debian 12' }];
      case 'cdrom':
        this.medium = `/iso/${body.isoname}.iso`;
        return ok(`${query.get('dev')} ok`);
      case 'display':
        return { ...ok('vnc'), display: this.page(guest, 'vnc', '/novnc/vnc_lite.html'), expire: '' };
      case 'console':
        return { ...ok('console'), display: this.page(guest, 'serial', '/term/xterm.html'), expire: '' };
      default:
        return undefined;
    }
  }
}
