import react from '@vitejs/plugin-react';
import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

const page = (path: string) => resolve(import.meta.dirname, path);

export default defineConfig({
  plugins: [react()],
  // What is in e2e/ needs a browser and runs under node's own test runner.
  test: { include: ['src/**/*.test.ts'] },
  // nginx puts a fresh value in place of this one in each answer; see docs/ui.md.
  html: { cspNonce: '__CSP_NONCE__' },
  build: {
    target: 'es2022',
    sourcemap: false,
    // Data URLs would need room in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: {
        index: page('index.html'),
        guest: page('guest.html'),
        api: page('api.html'),
        vnc: page('console/vnc.html'),
        spice: page('console/spice.html'),
        serial: page('console/serial.html'),
      },
    },
  },
});
