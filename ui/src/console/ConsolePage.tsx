/** One console: a bar, the guest's screen, and what is to be said over it. */
import { Loader, Text } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';

import { useTexts } from '../shell/i18n';
import { Bar } from './Bar';
import { EndCard } from './EndCard';
import { PasteDialog } from './PasteDialog';
import type { MakeDriver } from './driver';
import type { Opening } from './fragment';
import { useConsole, type Kind } from './useConsole';

interface Properties {
  kind: Kind;
  opening: Opening | undefined;
  make: MakeDriver;
}

const TITLES = { vnc: 'titleVnc', spice: 'titleSpice', serial: 'titleSerial' } as const;

export function ConsolePage({ kind, opening, make }: Properties) {
  const { t } = useTexts();
  const whole = useRef<HTMLDivElement>(null);
  const bar = useRef<HTMLDivElement>(null);
  const [pasting, setPasting] = useState(false);
  const console = useConsole(kind, opening, make, (count) => t('lostBytes', { count }));
  const { state, name, driver, connection, place } = console;
  const title = t(TITLES[kind]);

  useEffect(() => {
    document.title = name === '' ? title : `${name} · ${title}`;
  }, [name, title]);
  useEffect(() => {
    if (state.at === 'connected') driver?.focus();
  }, [state.at, driver]);
  useWayOut(bar);

  return (
    <div className="console" ref={whole}>
      <div ref={bar}>
        <Bar kind={kind} console={console} whole={whole} onPaste={() => setPasting(true)} />
      </div>
      <main className="console-body" data-state={state.at}>
        <div
          className="console-screen"
          ref={place}
          role="application"
          aria-label={t(kind === 'serial' ? 'terminalLabel' : 'screenLabel', { name })}
        />
        {state.at === 'starting' && (
          <div className="console-over" role="status">
            <Loader color="white" size="sm" mr="sm" />
            <Text c="white">{t('starting')}</Text>
          </div>
        )}
        {(state.at === 'ended' || state.at === 'waiting') && (
          <EndCard state={state} onReconnect={connection && (() => connection.reconnect())} />
        )}
      </main>
      {driver && (
        <PasteDialog
          opened={pasting}
          driver={driver}
          onClose={() => {
            setPasting(false);
            driver.focus();
          }}
        />
      )}
    </div>
  );
}

/** The guest gets all keys, Tab included; this combination leads back to the page's own controls. */
function useWayOut(bar: React.RefObject<HTMLDivElement | null>): void {
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (event.code !== 'KeyM' || !event.ctrlKey || !event.altKey || !event.shiftKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      bar.current?.querySelector<HTMLElement>('button:not(:disabled)')?.focus();
    };
    window.addEventListener('keydown', listen, { capture: true });
    return () => window.removeEventListener('keydown', listen, { capture: true });
  }, [bar]);
}
