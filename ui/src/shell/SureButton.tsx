/** A button that asks once more, in place, before it does something that cannot be taken back. */
import { Button, type ButtonProps } from '@mantine/core';
import { useEffect, useState } from 'react';

import { useTexts } from './i18n';

/** After this the question is withdrawn, milliseconds. */
const PATIENCE_MS = 4000;

interface Properties extends ButtonProps {
  title?: string;
  onClick: () => void;
}

export function SureButton({ onClick, children, ...rest }: Properties) {
  const { t } = useTexts();
  const [asking, setAsking] = useState(false);
  useEffect(() => {
    if (!asking) return undefined;
    const timer = setTimeout(() => setAsking(false), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [asking]);
  const press = () => {
    if (asking) onClick();
    setAsking(!asking);
  };
  return (
    <Button {...rest} {...(asking && { color: 'red', variant: 'filled' })} onClick={press}>
      {asking ? t('sure') : children}
    </Button>
  );
}
