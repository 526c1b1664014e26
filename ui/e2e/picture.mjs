// Compares what a page shows with the picture that the API gives.

/**
 * Share of the pixels that differ (0 to 1) and that are not black in the page, or sizes that differ.
 * The PNG is decoded by the browser itself.
 */
export function compare(page, png) {
  return page.locator('canvas').evaluate(async (canvas, base64) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    const { width, height } = image;
    if (width !== canvas.width || height !== canvas.height) {
      return { sizes: [width, height, canvas.width, canvas.height] };
    }
    const other = new OffscreenCanvas(width, height).getContext('2d');
    other.drawImage(image, 0, 0);
    const a = other.getImageData(0, 0, width, height).data;
    const b = canvas.getContext('2d').getImageData(0, 0, width, height).data;
    let differ = 0;
    let lit = 0;
    for (let at = 0; at < a.length; at += 4) {
      const off = [0, 1, 2].some((c) => Math.abs(a[at + c] - b[at + c]) > 24);
      differ += off ? 1 : 0;
      lit += b[at] + b[at + 1] + b[at + 2] > 96 ? 1 : 0;
    }
    const all = width * height;
    return { differ: differ / all, lit: lit / all };
  }, png.toString('base64'));
}
