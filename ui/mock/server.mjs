// A gateway, a proxy and two guests, small, in one process: what the pages are developed and tested
// against without a hypervisor. Serves ui/dist under the policy that nginx sets (nginx/vmmgr.conf.j2).
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { WebSocketServer } from 'ws';

import { Refusal } from './refusal.mjs';
import { RfbServer } from './rfb.mjs';
import { Tenants } from './tenant.mjs';

const DIST = new URL('../dist', import.meta.url).pathname;
const API = JSON.parse(await readFile(new URL('../../openapi/v1.json', import.meta.url), 'utf8'));
const PAGES = { '/': '/index.html' };
for (const page of ['/guest.html', '/api.html', '/console/vnc.html', '/console/spice.html', '/console/serial.html']) PAGES[page] = page;
Object.assign(PAGES, { '/novnc/vnc_lite.html': '/console/vnc.html', '/term/xterm.html': '/console/serial.html' });
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const vm = (id, name, state) => ({
  host: 'host01',
  host_state: 'reachable',
  age_seconds: 0,
  id,
  name: `${name}-${id}`,
  state,
  graphics: 'vnc',
  record: { ipaddr: '' },
});

export class Mock {
  user = { username: 'admin', password: 'correct horse' };
  guests = [
    vm('6f5d8bf6-d580-4946-9541-13fa98b4acf4', 'web1', 'running'),
    vm('0a0a0a0a-0000-4000-8000-000000000001', 'db1', 'shut_off'),
  ];
  /** Output of the serial line since the guest's start; offsets below `kept` are lost. */
  line = Buffer.from('welcome\r\n');
  kept = 0;
  /** Screens that were opened, the last one at the end. */
  screens = [];
  /** Lists of guests that were asked for since a stream of events began. */
  lists = 0;
  /** Events are refused. */
  silent = false;
  /** First bytes of SPICE channels. */
  spice = [];
  tenants = new Tenants(this);
  /** Streams of events that are open. */
  streams = new Set();
  #tickets = new Map();
  #sockets = new Set();
  #token = randomBytes(16).toString('hex');

  async listen(port = 0) {
    this.server = createServer((request, response) => void this.#answer(request, response));
    const sockets = new WebSocketServer({
      noServer: true,
      handleProtocols: (offered) => (offered.has('binary') ? 'binary' : false),
    });
    this.server.on('upgrade', (request, socket, head) => {
      const ticket = /vmmgr\.ticket\.([^, ]+)/.exec(request.headers['sec-websocket-protocol'] ?? '')?.[1];
      const grant = this.#tickets.get(`t:${ticket}`);
      this.#tickets.delete(`t:${ticket}`);
      const url = new URL(request.url, 'http://x');
      if (!grant || url.pathname !== '/console/ws') return socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
      sockets.handleUpgrade(request, socket, head, (ws) => this.#serve(ws, grant, url));
    });
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  close() {
    this.drop(1001, '');
    this.server.closeAllConnections();
    this.server.close();
  }

  /** Closes all websockets. */
  drop(code, reason) {
    for (const ws of this.#sockets) ws.close(code, reason);
  }

  /** Tells all who follow the fleet; none do once their streams are cut. */
  tell(event, data) {
    for (const stream of this.streams) stream.write(`event: ${event}\nid: mock-1\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** Ends all streams of events, as a gateway that goes down does. */
  cut() {
    for (const stream of this.streams) stream.end();
  }

  #follow(response) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    this.streams.add(response);
    this.lists = 0;
    response.on('close', () => this.streams.delete(response));
    this.tell('resync', { reason: 'start' });
  }

  /** The guest says something on its serial line. */
  say(text) {
    const bytes = Buffer.from(text);
    this.line = Buffer.concat([this.line, bytes]);
    for (const ws of this.#sockets) if (ws.kind === 'serial') ws.send(bytes);
  }

  /** A ticket, as `POST …/console` answers it. */
  ticket(guest, kind, mode = 'share') {
    if (guest.state !== 'running') throw new Refusal(409, 'wrong_state', `guest ${guest.name} is off`, 'start it first');
    const ticket = randomBytes(16).toString('base64url');
    const grant = { guest, kind, mode };
    this.#tickets.set(`t:${ticket}`, grant);
    const page = `/console/${kind}.html#host=${guest.host}&vm=${guest.id}&ticket=${ticket}`;
    return { ticket, websocket: '/console/ws', page, kind, mode, expires_at: '2030-01-01T00:00:00Z' };
  }

  #exchange(body) {
    const key = body.ticket === undefined ? `r:${body.resume}` : `t:${body.ticket}`;
    const grant = this.#tickets.get(key);
    this.#tickets.delete(key);
    if (!grant) throw new Refusal(401, 'unauthenticated', 'the ticket is not known', undefined);
    const resume = randomBytes(16).toString('base64url');
    const ticket = this.ticket(grant.guest, grant.kind, grant.mode);
    this.#tickets.set(`r:${resume}`, grant);
    return { ticket, resume, host: grant.guest.host, vm: grant.guest.id, name: grant.guest.name };
  }

  #serve(ws, { kind, mode }, url) {
    ws.kind = kind;
    this.#sockets.add(ws);
    ws.on('close', () => this.#sockets.delete(ws));
    if (kind === 'vnc') {
      const screen = new RfbServer((bytes) => ws.send(bytes));
      screen.mode = mode;
      this.screens.push(screen);
      ws.on('message', (bytes) => screen.take(bytes));
    } else if (kind === 'serial') {
      const from = Math.max(Number(url.searchParams.get('from')), this.kept);
      ws.send(JSON.stringify({ offset: from }));
      ws.send(this.line.subarray(from));
      ws.on('message', (bytes) => mode !== 'view' && this.say(bytes.toString().replace('\r', '\r\n')));
    } else {
      ws.once('message', (bytes) => this.spice.push(bytes.subarray(0, 4).toString('latin1')));
    }
  }

  async #answer(request, response) {
    const url = new URL(request.url, this.url);
    try {
      if (request.method === 'GET' && (await this.#file(url.pathname, response))) return;
      const text = (await request.toArray()).join('');
      const body = text === '' ? undefined : JSON.parse(text);
      const answer = this.tenants.route(request, url, body) ?? this.#route(request, url, body);
      if (url.pathname === '/v1/events') this.#follow(response);
      else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { status, code, hint, message: detail, envelope } = error;
      const problem = envelope ?? { status, code, detail, hint, request_id: 'mock' };
      response.writeHead(status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
    }
  }

  async #file(path, response) {
    const nonce = randomBytes(16).toString('hex');
    if (PAGES[path]) {
      const html = await readFile(DIST + PAGES[path], 'utf8');
      const attributes = path === '/console/spice.html' ? "style-src-attr 'unsafe-inline'; " : '';
      response.writeHead(200, {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': `default-src 'none'; script-src 'self'; style-src 'self' 'nonce-${nonce}'; ${attributes}img-src 'self' data: blob:; media-src blob:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
      });
      response.end(html.replaceAll('__CSP_NONCE__', nonce));
      return true;
    }
    if (!/^\/(assets\/[\w.-]+|favicon\.svg)$/.test(path)) return false;
    const bytes = await readFile(DIST + path);
    response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream' }).end(bytes);
    return true;
  }

  #route({ method, headers }, { pathname }, body) {
    if (pathname === '/v1/console/exchange') return this.#exchange(body);
    if (pathname === '/v1/openapi.json') return API;
    if (method === 'POST' && pathname === '/v1/session') {
      const fits = body.username === this.user.username && body.password === this.user.password;
      if (!fits) throw new Refusal(401, 'unauthenticated', 'wrong name or password', 'check the keyboard layout');
      return { token: this.#token, token_type: 'Bearer', expires_in: 900 };
    }
    if (headers.authorization !== `Bearer ${this.#token}`) throw new Refusal(401, 'unauthenticated', 'log in first');
    if (pathname === '/v1/vms') {
      this.lists += 1;
      return this.guests;
    }
    if (pathname === '/v1/events') {
      if (this.silent) throw new Refusal(503, 'store_unavailable', 'no events for now');
      return {};
    }
    if (pathname === '/v1/session') return (this.#token = randomBytes(16).toString('hex')), {};
    const [, id, verb] = /^\/v1\/hosts\/host01\/vms\/([^/]+)\/(\w+)$/.exec(pathname) ?? [];
    const guest = this.guests.find((each) => each.id === id);
    if (!guest) throw new Refusal(404, 'no_such_route', 'no such route');
    switch (verb) {
      case 'start':
        guest.state = 'running';
        return { id: 'op', state: 'succeeded' };
      case 'poweroff':
      case 'shutdown':
        guest.state = 'shut_off';
        return { id: 'op', state: 'succeeded' };
      case 'addresses':
        return [{ mac: '52:54:00:00:00:01', name: 'eth0', addresses: [{ address: '169.254.3.4/16', family: 'ipv4' }] }];
      case 'console':
        return this.ticket(guest, body.kind, body.mode);
      default:
        throw new Refusal(404, 'no_such_route', 'no such route');
    }
  }
}
