/** Name of a screenshot: the guest's, and when it was taken. */
export function fileName(guest: string, when: Date): string {
  const safe = guest.replace(/[^A-Za-z0-9._-]+/g, '_') || 'guest';
  return `${safe}-${when.toISOString().slice(0, 19).replace(/[:T]/g, '-')}.png`;
}

/** Hands a file to the browser's downloads. */
export function save(blob: Blob, guest: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = fileName(guest, new Date());
  link.click();
  // The download has its own hold of the data once it has begun.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
