/** A tenant's page: one guest, by a link, without an account. */
import { Alert, Badge, Container, Group, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useMemo, useState, type ReactNode } from 'react';

import { ProblemAlert } from '../shell/ProblemAlert';
import { Switches } from '../shell/Switches';
import { Problem } from '../shell/api';
import { useTexts } from '../shell/i18n';
import { GuestPanel } from './GuestPanel';
import { TokenForm } from './TokenForm';
import { leftOf, tickOf } from './countdown';
import { keepToken, parseToken, type Link } from './link';
import { Tenant } from './tenant';

export function GuestPage({ first }: { first: string | undefined }) {
  const { t } = useTexts();
  const [token, setToken] = useState(first);
  const link = useMemo(() => (token === undefined ? undefined : parseToken(token)), [token]);
  useEffect(() => {
    document.title = t('yourGuest');
  }, [t]);
  let body: ReactNode;
  if (token === undefined) {
    body = (
      <TokenForm
        onToken={(next) => {
          keepToken(next);
          setToken(next);
        }}
      />
    );
  } else if (link === undefined) {
    body = <Wrong />;
  } else {
    body = <Linked link={link} />;
  }
  return (
    <Container size="sm" py="md">
      <Group justify="space-between" mb="md">
        <Title order={1} size="h3">
          {t('yourGuest')}
        </Title>
        <Group gap="xs">
          <Switches />
        </Group>
      </Group>
      <main>{body}</main>
    </Container>
  );
}

function Wrong() {
  const { t } = useTexts();
  return (
    <Alert color="red" role="alert" title={t('wrongTitle')} data-page="wrong">
      {t('wrong')}
    </Alert>
  );
}

function Expired({ link }: { link: Link }) {
  const { t, language } = useTexts();
  const when = new Date(link.expires * 1000).toLocaleString(language);
  return (
    <Alert color="orange" role="alert" title={t('expiredTitle')} data-page="expired">
      {t('expired', { when })}
    </Alert>
  );
}

/** Seconds left; counts down. */
function useLeft(link: Link): number {
  const read = () => link.expires - Date.now() / 1000;
  const [left, setLeft] = useState(read);
  useEffect(() => {
    const timer = setTimeout(() => setLeft(read()), tickOf(left));
    return () => clearTimeout(timer);
  });
  return left;
}

const REFRESH_MS = 3000;

function Linked({ link }: { link: Link }) {
  const { t } = useTexts();
  const left = useLeft(link);
  const tenant = useMemo(() => new Tenant(link), [link]);
  const guest = useQuery({
    queryKey: ['guest', link.key],
    queryFn: () => tenant.guest(),
    // A link that was refused is not asked for again and again.
    refetchInterval: ({ state }) => (state.error instanceof Problem && state.error.status < 500 && state.error.status > 0 ? false : REFRESH_MS),
    enabled: left > 0,
  });
  const status = guest.error instanceof Problem ? guest.error.status : 0;
  if (left <= 0 || status === 410) return <Expired link={link} />;
  if (status === 401 || status === 403 || status === 404) return <Wrong />;
  return (
    <>
      <Badge mb="md" size="lg" variant="light" color={left < 3600 ? 'orange' : 'blue'} data-testid="left" tt="none">
        {t('expiresIn', { left: leftOf(left, t) })}
      </Badge>
      {guest.error && <ProblemAlert problem={guest.error} />}
      {guest.data && <GuestPanel tenant={tenant} guest={guest.data} onChanged={() => void guest.refetch()} />}
    </>
  );
}
