import { Alert, Button, Paper, PasswordInput, Stack, TextInput } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import type { FormEvent } from 'react';

import { ProblemAlert } from '../shell/ProblemAlert';
import { useTexts } from '../shell/i18n';
import { logIn } from './fleet';

export function Login({ expired, onToken }: { expired: boolean; onToken: (token: string) => void }) {
  const { t } = useTexts();
  const login = useMutation({
    mutationFn: ({ user, password }: { user: string; password: string }) => logIn(user, password),
    onSuccess: ({ token }) => onToken(token),
  });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    login.mutate({ user: String(form.get('username')), password: String(form.get('password')) });
  };
  return (
    <Paper withBorder p="lg" maw={360} mx="auto" mt="xl" component="main">
      <form onSubmit={submit}>
        <Stack>
          {expired && !login.isError && <Alert color="yellow">{t('loggedOut')}</Alert>}
          {login.isError && <ProblemAlert problem={login.error} />}
          <TextInput name="username" label={t('user')} autoComplete="username" required autoFocus />
          <PasswordInput name="password" label={t('password')} autoComplete="current-password" required />
          <Button type="submit" loading={login.isPending}>
            {t('logIn')}
          </Button>
        </Stack>
      </form>
    </Paper>
  );
}
