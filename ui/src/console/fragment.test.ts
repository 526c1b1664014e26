import { describe, expect, it } from 'vitest';

import { parseFragment } from './fragment';

const VM = '6f5d8bf6-d580-4946-9541-13fa98b4acf4';
const TICKET = 'abcdefghijklmnop_-.~';

describe('the fragment that opens a console', () => {
  it('is read', () => {
    expect(parseFragment(`#host=host01&vm=${VM}&ticket=${TICKET}`)).toEqual({ host: 'host01', vm: VM, ticket: TICKET });
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
