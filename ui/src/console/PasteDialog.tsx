/** A text of several lines, typed into the guest key by key; can be stopped. */
import { Button, Group, Modal, Progress, Select, Stack, Text, Textarea } from '@mantine/core';
import { useRef, useState } from 'react';

import { useTexts } from '../shell/i18n';
import type { Driver } from './driver';
import { LAYOUTS, strokesOf, type Layout } from './keys';
import { paced } from './paste';

interface Properties {
  opened: boolean;
  driver: Driver;
  onClose: () => void;
}

const NAMES: Record<Layout, string> = { us: 'English (US)', gb: 'English (UK)', de: 'Deutsch', fr: 'Français' };

interface Sent {
  sent: number;
  total: number;
}

/** Sends keys of a layout, or the characters themselves where the guest takes text. */
async function typeInto(driver: Driver, text: string, layout: Layout, delayMs: number, signal: AbortSignal, show: (sent: Sent) => void) {
  const pace = <T,>(items: T[], send: (item: T) => void) =>
    paced({ items, send, delayMs, signal, progress: (sent) => show({ sent, total: items.length }) });
  if (driver.plainText) await pace(Array.from(text.replace(/\r\n?/g, '\n')), (c) => driver.plainText?.(c));
  else await pace(strokesOf(text, layout).strokes, (stroke) => driver.type(stroke));
}

export function PasteDialog({ opened, driver, onClose }: Properties) {
  const { t } = useTexts();
  const [text, setText] = useState('');
  const [layout, setLayout] = useState<Layout>('us');
  const [delay, setDelay] = useState('30');
  const [sent, setSent] = useState<Sent>();
  const abort = useRef<AbortController>(undefined);
  const keys = driver.plainText === undefined;
  const missing = keys ? strokesOf(text, layout).missing : [];

  const start = async () => {
    const mine = (abort.current = new AbortController());
    await typeInto(driver, text, layout, Number(delay), mine.signal, setSent);
    setSent(undefined);
    if (!mine.signal.aborted) {
      // What was typed may be a password: it does not stay in the page.
      setText('');
      onClose();
    }
  };
  const close = () => {
    abort.current?.abort();
    onClose();
  };

  return (
    <Modal opened={opened} onClose={close} title={t('pasteTitle')} closeButtonProps={{ 'aria-label': t('close') }}>
      <Stack gap="sm">
        <Textarea
          label={t('pasteText')}
          data-autofocus
          autosize
          minRows={4}
          maxRows={12}
          spellCheck={false}
          value={text}
          disabled={sent !== undefined}
          onChange={(event) => setText(event.currentTarget.value)}
        />
        {keys && (
          <Select
            label={t('pasteLayout')}
            data={LAYOUTS.map((value) => ({ value, label: NAMES[value] }))}
            value={layout}
            allowDeselect={false}
            onChange={(value) => setLayout((value ?? 'us') as Layout)}
          />
        )}
        <Select
          label={t('pasteDelay')}
          data={[
            { value: '10', label: t('pasteFast') },
            { value: '30', label: t('pasteNormal') },
            { value: '100', label: t('pasteSlow') },
          ]}
          value={delay}
          allowDeselect={false}
          onChange={(value) => setDelay(value ?? '30')}
        />
        {missing.length > 0 && (
          <Text c="red" size="sm" role="alert">
            {t('pasteMissing', { characters: missing.slice(0, 20).join(' ') })}
          </Text>
        )}
        {sent && <Progress value={(100 * sent.sent) / sent.total} aria-label={t('pasteProgress', { ...sent })} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={sent ? () => abort.current?.abort() : close}>
            {t(sent ? 'pasteStop' : 'cancel')}
          </Button>
          <Button disabled={text === '' || missing.length > 0 || sent !== undefined} onClick={() => void start()}>
            {t('pasteStart')}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
