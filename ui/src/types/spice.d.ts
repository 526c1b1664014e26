/** The part of spice-html5 0.2 that is used here; its sources are its documentation. */
declare module '@spice-project/spice-html5' {
  export class SpiceMainConn {
    constructor(options: {
      uri: string;
      screen_id: string;
      password: string;
      onerror: (error: unknown) => void;
      onsuccess: () => void;
    });
    inputs?: { state: string; send_msg: (message: unknown) => void };
    stop(): void;
  }
}

declare module '@spice-project/spice-html5/src/spicemsg.js' {
  export class SpiceMsgcKeyDown {
    code: number;
  }
  export class SpiceMsgcKeyUp {
    code: number;
  }
  export class SpiceMiniData {
    build_msg(type: number, message: unknown): void;
  }
}

declare module '@spice-project/spice-html5/src/enums.js' {
  export const Constants: { SPICE_MSGC_INPUTS_KEY_DOWN: number; SPICE_MSGC_INPUTS_KEY_UP: number };
}
