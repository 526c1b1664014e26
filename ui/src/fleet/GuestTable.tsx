/** All guests of all hosts, dense and sortable. */
import { Button, Group, Stack, Table, Text, TextInput, UnstyledButton } from '@mantine/core';
import { useEffect, useState } from 'react';

import { ProblemAlert } from '../shell/ProblemAlert';
import { Problem } from '../shell/api';
import { useTexts } from '../shell/i18n';
import { GuestRow } from './GuestRow';
import { matching, type Fleet, type Guest, type GuestState } from './fleet';
import { useLiveGuests } from './useLiveGuests';

interface Properties {
  fleet: Fleet;
  onExpired: () => void;
  onLogOut: () => void;
}

type Column = 'host' | 'name' | 'state' | 'address';
const COLUMNS = { host: 'colHost', name: 'colName', state: 'colState', address: 'colAddress' } as const;

const valueOf = (guest: Guest, column: Column): string =>
  column === 'address' ? (guest.record.ipaddr ?? '') : guest[column];

export function GuestTable({ fleet, onExpired, onLogOut }: Properties) {
  const { t } = useTexts();
  const [filter, setFilter] = useState('');
  const [order, setOrder] = useState<{ by: Column; down: boolean }>({ by: 'name', down: false });
  const [problem, setProblem] = useState<unknown>();
  const list = useLiveGuests(fleet);
  const failure = list.error;
  const expired = [failure, problem].some((each) => each instanceof Problem && each.status === 401);
  useEffect(() => {
    if (expired) onExpired();
  }, [expired, onExpired]);

  const all = list.data ?? [];
  const label = (state: GuestState) => t(`state_${state}`);
  const shown = matching(all, filter, label).sort((a, b) => {
    const by = valueOf(a, order.by).localeCompare(valueOf(b, order.by), undefined, { numeric: true });
    return (order.down ? -by : by) || a.name.localeCompare(b.name);
  });
  return (
    <Stack component="main">
      <Group>
        <TextInput
          type="search"
          flex={1}
          aria-label={t('filter')}
          placeholder={t('filter')}
          value={filter}
          onChange={(event) => setFilter(event.currentTarget.value)}
        />
        <Text size="sm" c="dimmed" role="status">
          {t('count', { shown: shown.length, all: all.length })}
        </Text>
        <Button variant="default" onClick={onLogOut}>
          {t('logOut')}
        </Button>
      </Group>
      {failure && <ProblemAlert problem={failure} />}
      {problem !== undefined && <ProblemAlert problem={problem} onClose={() => setProblem(undefined)} />}
      <Table.ScrollContainer minWidth={720}>
        <Table striped highlightOnHover verticalSpacing={4} fz="sm">
          <Table.Thead>
            <Table.Tr>
              {(Object.keys(COLUMNS) as Column[]).map((column) => {
                const mine = order.by === column;
                const sort = mine ? (order.down ? 'descending' : 'ascending') : 'none';
                return (
                  <Table.Th key={column} aria-sort={sort}>
                    <UnstyledButton fw={600} fz="sm" onClick={() => setOrder({ by: column, down: mine && !order.down })}>
                      {t(COLUMNS[column])} {mine ? (order.down ? '▾' : '▴') : ''}
                    </UnstyledButton>
                  </Table.Th>
                );
              })}
              <Table.Th>{t('colActions')}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {shown.map((guest) => (
              <GuestRow
                key={`${guest.host}/${guest.id}`}
                guest={guest}
                fleet={fleet}
                onProblem={setProblem}
                onChanged={() => void list.refetch()}
              />
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      {list.isSuccess && shown.length === 0 && <Text c="dimmed">{t(all.length === 0 ? 'noGuests' : 'noMatch')}</Text>}
    </Stack>
  );
}
