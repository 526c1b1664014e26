import { describe, expect, it } from 'vitest';

import { parsePasted, parseToken } from './link';

// The example of the system whose links these are.
const TOKEN =
  'aG9zdDAxLzZmNWQ4YmY2LWQ1ODAtNDk0Ni05NTQxLTEzZmE5OGI0YWNmND9rPWc2S0h1T1A4R0lmVTVfZFlBN0lQX1EmZT0xNzQzNDM2Nzk5';
const PLAIN = 'host01/6f5d8bf6-d580-4946-9541-13fa98b4acf4?k=g6KHuOP8GIfU5_dYA7IP_Q&e=1743436799';
const LINK = {
  host: 'host01',
  vm: '6f5d8bf6-d580-4946-9541-13fa98b4acf4',
  key: 'g6KHuOP8GIfU5_dYA7IP_Q',
  expires: 1743436799,
};
const encoded = (text: string) => btoa(text).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

describe('a tenant link', () => {
  it('is read in both of its forms', () => {
    expect(parseToken(TOKEN)).toEqual(LINK);
    expect(parseToken(PLAIN)).toEqual(LINK);
    expect(parseToken(`${encoded(PLAIN)}==`)).toEqual(LINK);
  });

  it.each([
    ['nothing', ''],
    ['half a token', TOKEN.slice(0, 60)],
    ['no base64', '%%%'],
    ['two keys', encoded(`${PLAIN}&k=g6KHuOP8GIfU5_dYA7IP_Q`)],
    ['an encoded second key', encoded(`${PLAIN}&%6b=g6KHuOP8GIfU5_dYA7IP_Q`)],
    ['another order', encoded(PLAIN.replace(/\?(k=[^&]*)&(e=.*)/, '?$2&$1'))],
    ['no time', encoded(PLAIN.replace(/&e=.*/, ''))],
    ['a path', encoded(PLAIN.replace('host01', '../v1'))],
    ['a line end', encoded(`${PLAIN}\n`)],
  ])('is refused with %s', (_, token) => {
    expect(parseToken(token)).toBeUndefined();
  });

  it('is found in what people paste', () => {
    for (const text of [
      TOKEN,
      ` ${TOKEN}\n`,
      `https://vmm.registry.local/guest.html?token=${TOKEN}`,
      `https://vmm.registry.local/guest.html#token=${TOKEN}`,
    ]) {
      expect(parsePasted(text)).toEqual({ token: TOKEN, link: LINK });
    }
    expect(parsePasted('https://example.org/')).toBeUndefined();
  });
});
