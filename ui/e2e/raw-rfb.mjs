// A VNC client that does not ask whether it may: what is sent here only the proxy can hold back.

/**
 * Opens a websocket with this ticket from inside a page of the site, logs in to RFB, presses the keys,
 * and waits for a picture, so that all before it has been dealt with.
 */
export function pressKeys(page, { websocket, ticket }, keysyms) {
  return page.evaluate(
    ([path, ticket, keysyms]) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`wss://${location.host}${path}`, ['binary', `vmmgr.ticket.${ticket}`]);
        socket.binaryType = 'arraybuffer';
        let got = new Uint8Array();
        let stage = 0;
        const key = (down, keysym) => [4, down, 0, 0, 0, 0, keysym >> 8, keysym & 255];
        // How much each stage must have, and what is then sent.
        const stages = [
          [12, () => new TextEncoder().encode('RFB 003.008\n')],
          [2, () => [1]],
          [4, () => [1]],
          [24, () => keysyms.flatMap((keysym) => [...key(1, keysym), ...key(0, keysym)]).concat([3, 0, 0, 0, 0, 0, 0, 16, 0, 16])],
          [24 + 16, () => undefined],
        ];
        socket.onmessage = ({ data }) => {
          got = new Uint8Array([...got, ...new Uint8Array(data)]);
          while (stage < stages.length && got.length >= stages[stage][0]) {
            const answer = stages[stage][1]();
            if (answer === undefined) {
              socket.close();
              resolve(undefined);
              return;
            }
            socket.send(new Uint8Array(answer));
            // The name of the desktop is behind the fixed part of the server's greeting.
            got = stage === 3 ? new Uint8Array() : got.slice(stages[stage][0]);
            stage += 1;
          }
        };
        socket.onclose = ({ code, reason }) => reject(new Error(`closed with ${code} ${reason} in stage ${stage}`));
      }),
    [websocket, ticket, keysyms],
  );
}
