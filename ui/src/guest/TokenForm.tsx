import { Button, Group, Stack, TextInput } from '@mantine/core';
import { useState, type FormEvent } from 'react';

import { useTexts } from '../shell/i18n';
import { parsePasted } from './link';

export function TokenForm({ onToken }: { onToken: (token: string) => void }) {
  const { t } = useTexts();
  const [bad, setBad] = useState(false);
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const read = parsePasted(String(new FormData(event.currentTarget).get('token')));
    setBad(read === undefined);
    if (read) onToken(read.token);
  };
  return (
    <form onSubmit={submit}>
      <Stack>
        <TextInput
          name="token"
          label={t('askToken')}
          description={t('askTokenHelp')}
          error={bad && t('badToken')}
          autoComplete="off"
          required
          autoFocus
        />
        <Group justify="flex-end">
          <Button type="submit">{t('open')}</Button>
        </Group>
      </Stack>
    </form>
  );
}
