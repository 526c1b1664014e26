/** One guest of the table. */
import { Badge, Button, Group, Table, Tooltip } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';

import { SureButton } from '../shell/SureButton';
import { useTexts, type TextKey } from '../shell/i18n';
import { openInTab } from '../shell/tab';
import { isActive, shortName, type Fleet, type Guest, type Verb } from './fleet';

interface Properties {
  guest: Guest;
  fleet: Fleet;
  onProblem: (problem: unknown) => void;
  onChanged: () => void;
}

export function GuestRow({ guest, fleet, onProblem, onChanged }: Properties) {
  const { t } = useTexts();
  const active = isActive(guest.state);
  const away = guest.host_state !== 'reachable';
  const act = useMutation({
    mutationFn: (verb: Verb) => fleet.act(guest, verb),
    onError: onProblem,
    onSuccess: () => onProblem(undefined),
    onSettled: onChanged,
  });
  const open = async (kind: 'vnc' | 'spice' | 'serial') => {
    try {
      const opened = await openInTab(async () => (await fleet.console(guest, kind)).page);
      onProblem(opened ? undefined : new Error(t('popup')));
    } catch (error) {
      onProblem(error);
    }
  };
  const screen = guest.graphics === 'vnc' || guest.graphics === 'spice' ? guest.graphics : undefined;
  const power = (verb: Verb, text: TextKey) => ({
    size: 'compact-xs' as const,
    variant: 'default',
    loading: act.isPending && act.variables === verb,
    children: t(text),
    onClick: () => act.mutate(verb),
  });
  return (
    <Table.Tr data-guest={guest.id}>
      <Table.Td>{guest.host}</Table.Td>
      <Table.Td title={guest.id}>{shortName(guest)}</Table.Td>
      <Table.Td>
        <Tooltip
          disabled={!away}
          label={t('hostAway', { host: guest.host, state: guest.host_state, age: guest.age_seconds })}
        >
          <Badge variant={away ? 'outline' : 'light'} color={away ? 'orange' : active ? 'green' : 'gray'}>
            {t(`state_${guest.state}`)}
          </Badge>
        </Tooltip>
      </Table.Td>
      <Table.Td>
        <Address guest={guest} fleet={fleet} />
      </Table.Td>
      <Table.Td>
        <Group gap={4} wrap="nowrap">
          <Button {...power('start', 'start')} disabled={active} title={active ? t('needsOff') : undefined} />
          <Button {...power('shutdown', 'shutdown')} disabled={!active} title={active ? undefined : t('needsRunning')} />
          <SureButton {...power('poweroff', 'powerOff')} disabled={!active} title={t('powerOffHelp')} />
          <Button
            size="compact-xs"
            variant="light"
            disabled={!active || screen === undefined}
            title={screen === undefined ? t('noScreen') : active ? undefined : t('needsRunning')}
            onClick={() => screen && void open(screen)}
          >
            {t('openVnc')}
          </Button>
          <Button
            size="compact-xs"
            variant="light"
            disabled={!active}
            title={active ? undefined : t('needsRunning')}
            onClick={() => void open('serial')}
          >
            {t('openSerial')}
          </Button>
        </Group>
      </Table.Td>
    </Table.Tr>
  );
}

/** The reserved address; what the guest has now is asked of its host only on demand. */
function Address({ guest, fleet }: Pick<Properties, 'guest' | 'fleet'>) {
  const { t } = useTexts();
  const [asked, setAsked] = useState(false);
  const found = useQuery({
    queryKey: ['addresses', guest.id],
    queryFn: () => fleet.addresses(guest),
    enabled: asked && isActive(guest.state),
  });
  const kept = guest.record.ipaddr?.replace(/\/\d+$/, '');
  if (kept) return kept;
  if (found.data) return found.data.join(', ') || t('noAddress');
  if (!isActive(guest.state)) return '';
  if (found.error) return <span title={found.error.message}>{t('noAddress')}</span>;
  return (
    <Button size="compact-xs" variant="subtle" loading={found.isFetching} onClick={() => setAsked(true)}>
      {t('lookUp')}
    </Button>
  );
}
