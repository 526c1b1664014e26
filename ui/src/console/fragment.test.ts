import { describe, expect, it } from 'vitest';

import { parseFragment, parseQuery } from './fragment';

const VM = '6f5d8bf6-d580-4946-9541-13fa98b4acf4';
const TICKET = 'abcdefghijklmnop_-.~';

describe('the fragment that opens a console', () => {
  it('is read', () => {
    expect(parseFragment(`#host=host01&vm=${VM}&ticket=${TICKET}`)).toEqual({ vm: VM, ticket: TICKET });
    expect(parseFragment(`#ticket=${TICKET}&vm=${VM.toUpperCase()}&host=h.example-1`)?.vm).toBe(VM);
  });

  it.each([
    ['nothing', ''],
    ['no ticket', `#host=h&vm=${VM}`],
    ['an empty ticket', `#host=h&vm=${VM}&ticket=`],
    ['two tickets', `#host=h&vm=${VM}&ticket=${TICKET}&ticket=${TICKET}`],
    ['an encoded second ticket', `#host=h&vm=${VM}&ticket=${TICKET}&%74icket=${TICKET}`],
    ['a ticket that is no subprotocol', `#host=h&vm=${VM}&ticket=${TICKET},binary`],
    ['a ticket with a line end', `#host=h&vm=${VM}&ticket=${TICKET}%0d%0a`],
    ['a guest that is no UUID', `#host=h&vm=../x&ticket=${TICKET}`],
    ['a host with a slash', `#host=a/b&vm=${VM}&ticket=${TICKET}`],
  ])('is refused with %s', (_, fragment) => {
    expect(parseFragment(fragment)).toBeUndefined();
  });
});

describe('the query of the described system', () => {
  it('is read', () => {
    const opening = { vm: '', ticket: TICKET };
    expect(parseQuery(`?password=&path=websockify/%3Ftoken=${TICKET}`)).toEqual(opening);
    expect(parseQuery(`?path=websockify/?token=${TICKET}&host=10.0.0.1&port=1`)).toEqual(opening);
    expect(parseQuery(`?path=prefix/vm/websockify%3Ftoken%3D${TICKET}%26k%3D1`)).toEqual(opening);
  });

  it.each([
    ['no path', `?token=${TICKET}`],
    ['no token', '?path=websockify/'],
    ['two paths', `?path=a?token=${TICKET}&path=b?token=${TICKET}`],
    ['two tokens', `?path=a%3Ftoken=${TICKET}%26token=${TICKET}`],
    ['an encoded second token', `?path=a%3Ftoken=${TICKET}%26%2574oken=${TICKET}`],
    ['two queries', `?path=a%3Ftoken=${TICKET}%3Fb`],
  ])('is refused with %s', (_, query) => {
    expect(parseQuery(query)).toBeUndefined();
  });
});
