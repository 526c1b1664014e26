/** Texts in English and Chinese: the browser's language, or the reader's choice. */
import { createContext, useContext, useMemo, useState, type ReactNode } from 'react';

import { en } from './texts/en';
import { zh } from './texts/zh';

export type TextKey = keyof typeof en;
export type Language = 'en' | 'zh';
export type Translate = (key: TextKey, values?: Record<string, string | number>) => string;

const DICTIONARIES: Record<Language, Record<TextKey, string>> = { en, zh };
const CHOICE = 'vmmgr.language';

/** First supported language of a browser's list. */
export function preferred(languages: readonly string[]): Language {
  for (const language of languages) {
    if (/^zh\b/i.test(language)) return 'zh';
    if (/^en\b/i.test(language)) return 'en';
  }
  return 'en';
}

/** Fills `{name}` places of a text. */
export function translate(language: Language, key: TextKey, values: Record<string, string | number> = {}): string {
  return DICTIONARIES[language][key].replace(/\{(\w+)\}/g, (place, name: string) => String(values[name] ?? place));
}

interface Texts {
  language: Language;
  choose: (language: Language) => void;
  t: Translate;
}

const Context = createContext<Texts | undefined>(undefined);

function chosen(): Language {
  try {
    const kept = localStorage.getItem(CHOICE);
    if (kept === 'en' || kept === 'zh') return kept;
  } catch {
    // Storage may be forbidden; the browser's language serves.
  }
  return preferred(navigator.languages);
}

export function Texts({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState(chosen);
  const value = useMemo<Texts>(() => {
    document.documentElement.lang = language;
    return {
      language,
      choose: (next) => {
        try {
          localStorage.setItem(CHOICE, next);
        } catch {
          // Then the choice holds for this page only.
        }
        setLanguage(next);
      },
      t: (key, values) => translate(language, key, values),
    };
  }, [language]);
  return <Context value={value}>{children}</Context>;
}

export function useTexts(): Texts {
  const texts = useContext(Context);
  if (texts === undefined) throw new Error('no <Texts> around this');
  return texts;
}
