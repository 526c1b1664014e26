/** Language and colours. */
import { Button, useComputedColorScheme, useMantineColorScheme } from '@mantine/core';

import { useTexts } from './i18n';

export function Switches() {
  const { t, language, choose } = useTexts();
  const scheme = useComputedColorScheme('light');
  const { setColorScheme } = useMantineColorScheme();
  const other = language === 'en' ? 'zh' : 'en';
  return (
    <>
      <Button variant="subtle" size="compact-sm" lang={other} onClick={() => choose(other)}>
        {other === 'zh' ? '中文' : 'English'}
      </Button>
      <Button
        variant="subtle"
        size="compact-sm"
        onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}
      >
        {scheme === 'dark' ? t('light') : t('dark')}
      </Button>
    </>
  );
}
