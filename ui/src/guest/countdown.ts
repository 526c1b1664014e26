/** Time left, as people say it: the two largest units. */
import type { Translate } from '../shell/i18n';

const UNITS = [
  ['days', 86_400],
  ['hours', 3600],
  ['minutes', 60],
  ['seconds', 1],
] as const;

export function leftOf(seconds: number, t: Translate): string {
  let rest = Math.max(0, Math.floor(seconds));
  const first = UNITS.findIndex(([, size]) => rest >= size);
  if (first === -1) return t('seconds', { n: 0 });
  const parts: string[] = [];
  for (const [unit, size] of UNITS.slice(first, first + 2)) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n > 0) parts.push(t(unit, { n }));
  }
  return parts.join(' ');
}

/** When the text changes next, milliseconds: each second in the last two hours, each minute before. */
export const tickOf = (seconds: number): number => (seconds > 2 * 86_400 ? 60_000 : 1000);
