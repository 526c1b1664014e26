import { expect, it } from 'vitest';

import { translate } from '../shell/i18n';
import { leftOf, tickOf } from './countdown';

const left = (seconds: number, language: 'en' | 'zh' = 'en') =>
  leftOf(seconds, (key, values) => translate(language, key, values));

it.each([
  [10 * 86_400 + 3 * 3600 + 59, '10 d 3 h'],
  [86_400, '1 d'],
  [2 * 3600 + 5 * 60 + 3, '2 h 5 min'],
  [61, '1 min 1 s'],
  [59.9, '59 s'],
  [0, '0 s'],
  [-5, '0 s'],
])('says %d s as %s', (seconds, text) => {
  expect(left(seconds)).toBe(text);
});

it('says it in Chinese', () => {
  expect(left(3661, 'zh')).toBe('1 小时 1 分钟');
});

it('ticks as often as the text changes', () => {
  expect(tickOf(100)).toBe(1000);
  expect(tickOf(10 * 86_400)).toBe(60_000);
});
