/** The controls of a console. */
import { Badge, Button, Menu, Tooltip } from '@mantine/core';
import { useEffect, useState, type RefObject } from 'react';

import { Switches } from '../shell/Switches';
import { useTexts } from '../shell/i18n';
import { COMBINATIONS, CTRL_ALT_DEL, TERMINAL_COMBINATIONS, type Combination } from './keys';
import { save } from './save';
import type { Console, Kind } from './useConsole';

interface Properties {
  kind: Kind;
  console: Console;
  whole: RefObject<HTMLDivElement | null>;
  onPaste: () => void;
}

const COLOURS = { starting: 'yellow', connected: 'green', waiting: 'orange', ended: 'red' } as const;
const LABELS = { starting: 'starting', connected: 'connected', waiting: 'starting', ended: 'ended' } as const;

export function Bar({ kind, console, whole, onPaste }: Properties) {
  const { t } = useTexts();
  const { state, name, mode, connection } = console;
  return (
    <header className="console-bar" role="toolbar" aria-label={name}>
      <span className="console-name" title={name}>
        {name}
      </span>
      <Badge color={COLOURS[state.at]} variant="light" data-testid="state" role="status">
        {t(LABELS[state.at])}
      </Badge>
      {mode === 'view' && (
        <Tooltip label={t('viewOnlyHelp')}>
          <Badge color="grape" data-testid="view-only">
            {t('viewOnly')}
          </Badge>
        </Tooltip>
      )}
      <span className="console-room" />
      <Input kind={kind} console={console} onPaste={onPaste} />
      <View console={console} whole={whole} />
      {state.at !== 'ended' && connection && (
        <Button size="compact-sm" variant="light" color="red" onClick={() => connection.disconnect()}>
          {t('disconnect')}
        </Button>
      )}
      <Switches />
    </header>
  );
}

function Input({ kind, console, onPaste }: Omit<Properties, 'whole'>) {
  const { t } = useTexts();
  const { state, mode, driver } = console;
  const off = state.at !== 'connected' || mode === 'view' || driver === undefined;
  const send = (combination: Combination) => {
    driver?.combination(combination);
    driver?.focus();
  };
  return (
    <>
      {kind !== 'serial' && (
        <Button size="compact-sm" variant="default" disabled={off} onClick={() => send(CTRL_ALT_DEL)}>
          {CTRL_ALT_DEL.label}
        </Button>
      )}
      <Menu shadow="md" returnFocus={false}>
        <Menu.Target>
          <Button size="compact-sm" variant="default" disabled={off} title={t('keyboardHelp')}>
            {t('sendKeys')}
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          {(kind === 'serial' ? TERMINAL_COMBINATIONS : COMBINATIONS).map((combination) => (
            <Menu.Item key={combination.label} onClick={() => send(combination)}>
              {combination.label}
            </Menu.Item>
          ))}
          <Menu.Label maw={240}>{t('keyboardHelp')}</Menu.Label>
        </Menu.Dropdown>
      </Menu>
      <Button size="compact-sm" variant="default" disabled={off} onClick={onPaste}>
        {t('paste')}
      </Button>
    </>
  );
}

function View({ console, whole }: Pick<Properties, 'console' | 'whole'>) {
  const { t } = useTexts();
  const { state, driver, name } = console;
  const [fits, setFits] = useState(true);
  const full = useFullScreen();
  const off = state.at !== 'connected' || driver === undefined;
  return (
    <>
      {driver?.fit && (
        <Button
          size="compact-sm"
          variant={fits ? 'light' : 'default'}
          aria-pressed={fits}
          onClick={() => {
            driver.fit?.(!fits);
            setFits(!fits);
          }}
        >
          {t('fit')}
        </Button>
      )}
      {driver?.screenshot && (
        <Button
          size="compact-sm"
          variant="default"
          disabled={off}
          onClick={() => void driver.screenshot?.().then((blob) => blob && save(blob, name))}
        >
          {t('screenshot')}
        </Button>
      )}
      {driver?.selection && (
        <Button
          size="compact-sm"
          variant="default"
          onClick={() => void navigator.clipboard.writeText(driver.selection?.() ?? '')}
        >
          {t('copy')}
        </Button>
      )}
      <Button size="compact-sm" variant="default" onClick={() => void toggleFullScreen(whole.current)}>
        {t(full ? 'leaveFullScreen' : 'fullScreen')}
      </Button>
    </>
  );
}

function useFullScreen(): boolean {
  const [full, setFull] = useState(false);
  useEffect(() => {
    const listen = () => setFull(document.fullscreenElement !== null);
    document.addEventListener('fullscreenchange', listen);
    return () => document.removeEventListener('fullscreenchange', listen);
  }, []);
  return full;
}

/** In full screen, browsers that can leave Esc, Ctrl-W and the like to the guest do so. */
async function toggleFullScreen(element: HTMLElement | null): Promise<void> {
  if (document.fullscreenElement !== null) return document.exitFullscreen();
  await element?.requestFullscreen();
  const { keyboard } = navigator as { keyboard?: { lock?: () => Promise<void> } };
  await keyboard?.lock?.();
}
