/** What is in the CD drives. */
import { Button, Group, Select, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';

import { useTexts } from '../shell/i18n';
import type { Guest, Iso, Tenant } from './tenant';

interface Properties {
  tenant: Tenant;
  guest: Guest;
  busy: boolean;
  act: (work: () => Promise<string>) => void;
}

export function Media({ tenant, guest, busy, act }: Properties) {
  const drives = guest.disks.filter((disk) => disk.device === 'cdrom');
  const isos = useQuery({
    queryKey: ['isos', guest.uuid],
    queryFn: () => tenant.isos(),
    enabled: drives.length > 0,
    staleTime: 60_000,
  });
  return drives.map(({ target, source }) => (
    <Drive
      key={target}
      drive={target}
      now={source}
      isos={isos.data ?? []}
      busy={busy}
      onInsert={(name) => act(() => tenant.insert(target, name))}
    />
  ));
}

interface DriveProperties {
  drive: string;
  now: string;
  isos: Iso[];
  busy: boolean;
  onInsert: (name: string) => void;
}

function Drive({ drive, now, isos, busy, onInsert }: DriveProperties) {
  const { t } = useTexts();
  const [name, setName] = useState<string | null>(null);
  return (
    <Group align="flex-end">
      <Select
        flex={1}
        label={t('medium', { drive })}
        description={<Text span>{now.split('/').pop() || t('emptyDrive')}</Text>}
        placeholder={t('chooseIso')}
        data={[...new Set(isos.map((iso) => iso.name))]
          .filter((each) => each !== '')
          .map((value) => ({ value, label: isos.find((iso) => iso.name === value)?.description || value }))}
        value={name}
        onChange={setName}
      />
      <Button disabled={name === null} loading={busy} onClick={() => name !== null && onInsert(name)}>
        {t('insert')}
      </Button>
    </Group>
  );
}
