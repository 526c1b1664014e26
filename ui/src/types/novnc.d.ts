/** The part of noVNC 1.7 (docs/API.md of the package) that is used here. */
declare module '@novnc/novnc' {
  interface Events {
    connect: CustomEvent<undefined>;
    disconnect: CustomEvent<{ clean: boolean }>;
    credentialsrequired: CustomEvent<{ types: string[] }>;
    securityfailure: CustomEvent<{ status: number; reason?: string }>;
  }

  export default class RFB {
    constructor(target: HTMLElement, channel: WebSocket, options?: { shared?: boolean });
    viewOnly: boolean;
    scaleViewport: boolean;
    background: string;
    addEventListener<K extends keyof Events>(name: K, listener: (event: Events[K]) => void): void;
    disconnect(): void;
    focus(): void;
    sendKey(keysym: number, code: string, down: boolean): void;
    toBlob(done: (blob: Blob | null) => void, type: string): void;
  }
}
