/** What is said over the screen while there is no connection. */
import { Button, Paper, Stack, Text, Title } from '@mantine/core';
import { useEffect, useState } from 'react';

import { useTexts, type Translate } from '../shell/i18n';
import type { PageState } from './useConsole';

type Away = Extract<PageState, { at: 'ended' | 'waiting' }>;

function sentence(state: Away, seconds: number, t: Translate): string {
  if (state.at === 'waiting') return t('waiting', { attempt: state.attempt, seconds });
  return t(`end_${state.reason}`, { detail: state.detail });
}

/** Seconds until the next attempt. */
function useSeconds(state: Away): number {
  const [left, setLeft] = useState(0);
  useEffect(() => {
    if (state.at !== 'waiting') return undefined;
    const end = Date.now() + state.delayMs;
    const show = () => setLeft(Math.max(0, Math.ceil((end - Date.now()) / 1000)));
    show();
    const timer = setInterval(show, 250);
    return () => clearInterval(timer);
  }, [state]);
  return left;
}

/** A new attempt can help; without a ticket, or with one that is spent, it cannot. */
const helps = (state: Away) => state.at === 'waiting' || !['no_ticket', 'used', 'kind'].includes(state.reason);

export function EndCard({ state, onReconnect }: { state: Away; onReconnect: (() => void) | undefined }) {
  const { t } = useTexts();
  const seconds = useSeconds(state);
  return (
    <div className="console-over">
      <Paper p="lg" maw={480} shadow="md" withBorder role="alert" data-reason={state.at === 'ended' ? state.reason : 'waiting'}>
        <Stack gap="sm" align="flex-start">
          {state.at === 'ended' && <Title order={4}>{t('ended')}</Title>}
          <Text>{sentence(state, seconds, t)}</Text>
          {onReconnect && helps(state) && (
            <Button autoFocus onClick={onReconnect}>
              {t('reconnect')}
            </Button>
          )}
        </Stack>
      </Paper>
    </div>
  );
}
