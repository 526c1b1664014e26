/** A failure: what the API says, what to do next, where the logs tell more. */
import { Alert, Text } from '@mantine/core';

import { Problem } from './api';
import { useTexts } from './i18n';

export function ProblemAlert({ problem, onClose }: { problem: unknown; onClose?: () => void }) {
  const { t } = useTexts();
  const known = problem instanceof Problem ? problem : new Problem(0, 'internal', String(problem));
  const detail = known.code === 'network' ? t('noAnswer') : known.message;
  return (
    <Alert
      color="red"
      role="alert"
      title={detail}
      withCloseButton={onClose !== undefined}
      closeButtonLabel={t('close')}
      {...(onClose && { onClose })}
    >
      {known.hint !== '' && <Text size="sm">{known.hint}</Text>}
      {known.requestId !== '' && (
        <Text size="xs" c="dimmed">
          {t('requestId', { id: known.requestId })}
        </Text>
      )}
    </Alert>
  );
}
