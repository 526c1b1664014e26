/**
 * Opens a page of this site in a new tab once its address is known. The tab is opened at once,
 * because browsers allow it only while they handle the click.
 */
export async function openInTab(address: () => Promise<string>): Promise<boolean> {
  const tab = window.open('', '_blank');
  if (tab === null) return false;
  try {
    const url = new URL(await address(), location.origin);
    if (url.origin !== location.origin) throw new Error(`unexpected page ${url.origin}`);
    tab.opener = null;
    tab.location.replace(url);
    return true;
  } catch (error) {
    tab.close();
    throw error;
  }
}
