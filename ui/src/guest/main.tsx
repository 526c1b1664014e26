import { QueryClient, QueryClientProvider } from '@tanstack/react-query';

import { mount } from '../shell/mount';
import { GuestPage } from './GuestPage';
import { takeToken } from './link';

const queries = new QueryClient({ defaultOptions: { queries: { retry: false, networkMode: 'always' } } });

mount(
  <QueryClientProvider client={queries}>
    <GuestPage first={takeToken()} />
  </QueryClientProvider>,
);
