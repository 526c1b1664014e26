import { QueryClient, QueryClientProvider } from '@tanstack/react-query';

import { mount } from '../shell/mount';
import { FleetPage } from './FleetPage';

const queries = new QueryClient({ defaultOptions: { queries: { retry: 1, networkMode: 'always' } } });

mount(
  <QueryClientProvider client={queries}>
    <FleetPage />
  </QueryClientProvider>,
);
