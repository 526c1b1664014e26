/** State, power, console and media of the tenant's guest. */
import { Alert, Badge, Button, Group, Stack, Table } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';

import { isActive } from '../fleet/fleet';
import { ProblemAlert } from '../shell/ProblemAlert';
import { SureButton } from '../shell/SureButton';
import { useTexts, type TextKey } from '../shell/i18n';
import { openInTab } from '../shell/tab';
import { Media } from './Media';
import type { Guest, Tenant } from './tenant';

interface Properties {
  tenant: Tenant;
  guest: Guest;
  onChanged: () => void;
}

export function GuestPanel({ tenant, guest, onChanged }: Properties) {
  const { t } = useTexts();
  const [problem, setProblem] = useState<unknown>();
  const [done, setDone] = useState('');
  const act = useMutation({
    mutationFn: (work: () => Promise<string>) => work(),
    onMutate: () => {
      setProblem(undefined);
      setDone('');
    },
    onSuccess: setDone,
    onError: setProblem,
    onSettled: onChanged,
  });
  const open = async (verb: 'display' | 'console') => {
    try {
      const opened = await openInTab(() => tenant.page(verb));
      setProblem(opened ? undefined : new Error(t('popup')));
    } catch (error) {
      setProblem(error);
    }
  };
  const active = isActive(guest.state);
  const rows: [TextKey, string][] = [
    ['description', guest.description],
    ['address', guest.address],
    ['processors', String(guest.vcpus)],
    ['memory', `${guest.memoryMib} MiB`],
    ['disks', guest.disks.filter((disk) => disk.device === 'disk').map((disk) => disk.target).join(', ')],
  ];
  return (
    <Stack>
      {problem !== undefined && <ProblemAlert problem={problem} onClose={() => setProblem(undefined)} />}
      {done !== '' && (
        <Alert color="green" role="status" withCloseButton closeButtonLabel={t('close')} onClose={() => setDone('')}>
          {t('done', { what: done })}
        </Alert>
      )}
      <Group>
        <Badge size="lg" color={active ? 'green' : 'gray'} data-testid="guest-state">
          {t(`state_${guest.state}`)}
        </Badge>
        <Button size="xs" loading={act.isPending} disabled={active} onClick={() => act.mutate(() => tenant.power('start'))}>
          {t('start')}
        </Button>
        <Button size="xs" variant="default" disabled={!active} onClick={() => act.mutate(() => tenant.power('stop'))}>
          {t('shutdown')}
        </Button>
        <SureButton size="xs" variant="default" disabled={!active} onClick={() => act.mutate(() => tenant.power('reset'))}>
          {t('reset')}
        </SureButton>
        <SureButton
          size="xs"
          variant="default"
          disabled={!active}
          title={t('powerOffHelp')}
          onClick={() => act.mutate(() => tenant.power('stop', true))}
        >
          {t('forceOff')}
        </SureButton>
      </Group>
      <Group>
        <Button variant="light" disabled={!active} onClick={() => void open('display')}>
          {t('display')}
        </Button>
        <Button variant="light" disabled={!active} onClick={() => void open('console')}>
          {t('console')}
        </Button>
      </Group>
      <Table variant="vertical" withTableBorder>
        <Table.Tbody>
          {rows
            .filter(([, value]) => value !== '')
            .map(([key, value]) => (
              <Table.Tr key={key}>
                <Table.Th w={140}>{t(key)}</Table.Th>
                <Table.Td>{value}</Table.Td>
              </Table.Tr>
            ))}
        </Table.Tbody>
      </Table>
      <Media tenant={tenant} guest={guest} busy={act.isPending} act={act.mutate} />
    </Stack>
  );
}
