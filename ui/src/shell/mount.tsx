/** What every page starts with: style nonce, theme, language. */
import './nonce';

import { MantineProvider, createTheme } from '@mantine/core';
import '@mantine/core/styles.css';
import type { ReactNode } from 'react';
import { createRoot } from 'react-dom/client';

import { Texts } from './i18n';
import { styleNonce } from './nonce';
import './shell.css';

const theme = createTheme({ defaultRadius: 'sm', cursorType: 'pointer' });

export function mount(page: ReactNode): void {
  const root = document.getElementById('root');
  if (root === null) throw new Error('the page has no root element');
  createRoot(root).render(
    // No StrictMode: a console's effect uses up a ticket, and must run once.
    <MantineProvider theme={theme} defaultColorScheme="auto" getStyleNonce={styleNonce}>
      <Texts>{page}</Texts>
    </MantineProvider>,
  );
}
