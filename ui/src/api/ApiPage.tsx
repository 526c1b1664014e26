/** The API as its document describes it: every route, what it takes and what it answers. */
import { Anchor, Badge, Code, Container, Group, Stack, Text, TextInput, Title } from '@mantine/core';
import { useEffect, useState } from 'react';

import { ProblemAlert } from '../shell/ProblemAlert';
import { Switches } from '../shell/Switches';
import { call } from '../shell/api';
import { useTexts } from '../shell/i18n';
import { Route } from './Route';
import { groups, type ApiDocument } from './document';

const PLACE = '/v1/openapi.json';

export function ApiPage() {
  const { t } = useTexts();
  const [document, setDocument] = useState<ApiDocument>();
  const [problem, setProblem] = useState<unknown>();
  const [filter, setFilter] = useState('');
  useEffect(() => {
    const asking = new AbortController();
    call<ApiDocument>(PLACE, { signal: asking.signal }).then(setDocument, (why: unknown) => {
      if (!asking.signal.aborted) setProblem(why);
    });
    return () => asking.abort();
  }, []);

  return (
    <Container size="lg" py="md">
      <Group justify="space-between" mb="md">
        <Title order={1} size="h3">
          vmmgr · API {document && <Badge variant="light">{document.info.version}</Badge>}
        </Title>
        <Group gap="xs">
          <Anchor href={PLACE} size="sm">
            openapi.json
          </Anchor>
          <Switches />
        </Group>
      </Group>
      {problem !== undefined && <ProblemAlert problem={problem} />}
      {document && (
        <Stack component="main">
          <Text size="sm" c="dimmed">
            {t('apiAbout')} <Code>Authorization: Bearer …</Code>
          </Text>
          <TextInput
            type="search"
            aria-label={t('apiFilter')}
            placeholder={t('apiFilter')}
            value={filter}
            onChange={(event) => setFilter(event.currentTarget.value)}
          />
          {groups(document, filter).map(({ tag, about, entries }) => (
            <section key={tag} aria-label={tag}>
              <Title order={2} size="h5" mt="sm">
                {tag}{' '}
                <Text span size="sm" c="dimmed" fw={400}>
                  {about}
                </Text>
              </Title>
              {entries.map((entry) => (
                <Route key={entry.operation.operationId} document={document} entry={entry} />
              ))}
            </section>
          ))}
        </Stack>
      )}
    </Container>
  );
}
