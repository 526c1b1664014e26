/** The start page: log in, then the guests. The token stays in this page's memory. */
import { Anchor, Container, Group, Title } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo, useState } from 'react';

import { Switches } from '../shell/Switches';
import { useTexts } from '../shell/i18n';
import { GuestTable } from './GuestTable';
import { Login } from './Login';
import { Fleet } from './fleet';

export function FleetPage() {
  const { t } = useTexts();
  const queries = useQueryClient();
  const [token, setToken] = useState<string>();
  const [expired, setExpired] = useState(false);
  const fleet = useMemo(() => (token === undefined ? undefined : new Fleet(token)), [token]);

  useEffect(() => {
    document.title = `vmmgr · ${t('fleet')}`;
  }, [t]);

  const leave = (why: 'expired' | 'asked') => {
    // A token that is already worth nothing cannot be given back; that is as good.
    if (why === 'asked') fleet?.logOut().catch(() => undefined);
    queries.clear();
    setToken(undefined);
    setExpired(why === 'expired');
  };

  return (
    <Container size="xl" py="md">
      <Group justify="space-between" mb="md">
        <Title order={1} size="h3">
          vmmgr
        </Title>
        <Group gap="xs">
          <Anchor href="/api.html" size="sm">
            API
          </Anchor>
          <Switches />
        </Group>
      </Group>
      {fleet === undefined ? (
        <Login expired={expired} onToken={setToken} />
      ) : (
        <GuestTable fleet={fleet} onExpired={() => leave('expired')} onLogOut={() => leave('asked')} />
      )}
    </Container>
  );
}
