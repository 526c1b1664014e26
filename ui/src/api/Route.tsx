/** One operation; what it takes and answers is shown when it is opened. */
import { Badge, Code, Group, Stack, Table, Text } from '@mantine/core';
import { useState } from 'react';

import { useTexts } from '../shell/i18n';
import { about, answers, bodyOf, fields, limits, shape, type ApiDocument, type Entry, type Schema } from './document';

const COLOURS: Record<string, string> = { GET: 'blue', POST: 'green', PUT: 'orange', PATCH: 'orange', DELETE: 'red' };

interface Properties {
  document: ApiDocument;
  entry: Entry;
}

export function Route({ document, entry: { method, path, operation } }: Properties) {
  const [open, setOpen] = useState(false);
  return (
    <details id={operation.operationId} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <Group component="span" display="inline-flex" gap="xs">
          <Badge component="span" color={COLOURS[method] ?? 'gray'} w={72} radius="sm">
            {method}
          </Badge>
          <Code>{path}</Code>
          <Text span size="sm">
            {operation.summary}
          </Text>
        </Group>
      </summary>
      {open && <Opened document={document} entry={{ method, path, operation }} />}
    </details>
  );
}

function Opened({ document, entry: { operation } }: Properties) {
  const { t } = useTexts();
  const body = bodyOf(operation.requestBody);
  const rows = (operation.parameters ?? []).map(({ name, in: place, required = false, description, schema = {} }) => ({
    name, required, schema: { ...schema, ...(description !== undefined && { description }) }, place,
  }));
  return (
    <Stack gap="xs" p="sm">
      {operation.description !== undefined && operation.description !== '' && <Text size="sm">{operation.description}</Text>}
      {rows.length > 0 && <Fields title={t('apiParameters')} document={document} rows={rows} />}
      {body && <Fields title={`${t('apiBody')}: ${shape(body)}`} document={document} rows={fields(document, body)} />}
      <Text size="sm" fw={600}>
        {t('apiAnswers')}
      </Text>
      {answers(document, operation).map(({ status, about: words, body: content }) => (
        <Answer key={status} document={document} status={status} words={words} content={content} />
      ))}
    </Stack>
  );
}

interface AnswerProperties {
  document: ApiDocument;
  status: string;
  words: string;
  content: Schema | undefined;
}

function Answer({ document, status, words, content }: AnswerProperties) {
  const rows = content === undefined ? [] : fields(document, content);
  const line = (
    <Text span size="sm">
      <Code>{status}</Code> {words} {content && <Code>{shape(content)}</Code>}
    </Text>
  );
  if (rows.length === 0) return line;
  return (
    <details>
      <summary>{line}</summary>
      <Fields document={document} rows={rows} />
    </details>
  );
}

interface Row {
  name: string;
  schema: Schema;
  required: boolean;
  place?: string;
}

/** A table of fields; those that have fields themselves open. */
function Fields({ title, document, rows }: { title?: string; document: ApiDocument; rows: Row[] }) {
  const { t } = useTexts();
  return (
    <>
      {title !== undefined && (
        <Text size="sm" fw={600}>
          {title}
        </Text>
      )}
      <Table fz="sm" verticalSpacing={2} withRowBorders={false}>
        <Table.Tbody>
          {rows.map(({ name, schema, required, place }) => (
            <Table.Tr key={`${place ?? ''} ${name}`}>
              <Table.Td w="25%" valign="top">
                <Code>{name}</Code> {required && <Text span size="xs" c="red">{t('apiRequired')}</Text>}{' '}
                {place !== undefined && <Text span size="xs" c="dimmed">{place}</Text>}
              </Table.Td>
              <Table.Td>
                <Type document={document} schema={schema} />
                <Text size="xs" c="dimmed">
                  {[about(schema), limits(document, schema)].filter(Boolean).join(' · ')}
                </Text>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </>
  );
}

function Type({ document, schema }: { document: ApiDocument; schema: Schema }) {
  const [open, setOpen] = useState(false);
  const rows = fields(document, schema);
  if (rows.length === 0) return <Code>{shape(schema)}</Code>;
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <Code>{shape(schema)}</Code>
      </summary>
      {open && <Fields document={document} rows={rows} />}
    </details>
  );
}
