/**
 * Style elements that libraries make at run time (Mantine, xterm.js, the scroll lock) carry the
 * page's CSP nonce; without it the policy drops them. nginx puts the value into the page.
 * Import this before anything that makes elements.
 */
const meta = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]');
const nonce = meta?.nonce || meta?.getAttribute('nonce') || '';

export const styleNonce = (): string => nonce;

if (nonce !== '') {
  const original = document.createElement.bind(document);
  document.createElement = ((name: string, options?: ElementCreationOptions) => {
    const element = original(name, options);
    if (element instanceof HTMLStyleElement) element.nonce = nonce;
    return element;
  }) as typeof document.createElement;
}
