/** noVNC, unmodified. */
import RFB from '@novnc/novnc';

import { openSocket, type Resumable } from '../exchange';
import type { Tell } from '../connection';
import type { Driver } from '../driver';
import { pressesOf, type Combination, type Stroke } from '../keys';

export class VncDriver implements Driver {
  private rfb: RFB | undefined;
  private socket: WebSocket | undefined;
  private view = false;
  private scaled = true;

  constructor(private readonly place: HTMLElement) {}

  attach(grant: Resumable, tell: Tell): void {
    const socket = openSocket(grant);
    // noVNC tells only whether the end was clean; the code is what decides about coming back.
    socket.addEventListener('close', (event) => tell.ended(event.code, event.reason));
    const rfb = new RFB(this.place, socket, { shared: true });
    rfb.addEventListener('connect', tell.connected);
    rfb.addEventListener('securityfailure', (event) => tell.ended(1008, event.detail.reason ?? 'security'));
    rfb.addEventListener('credentialsrequired', () => tell.ended(1008, 'VNC password'));
    rfb.background = 'transparent';
    this.socket = socket;
    this.rfb = rfb;
    this.viewOnly(this.view);
    this.fit(this.scaled);
  }

  detach(): void {
    const { rfb, socket } = this;
    this.rfb = this.socket = undefined;
    rfb?.disconnect();
    socket?.close();
  }

  viewOnly(on: boolean): void {
    this.view = on;
    if (this.rfb) this.rfb.viewOnly = on;
  }

  fit(on: boolean): void {
    this.scaled = on;
    if (this.rfb) this.rfb.scaleViewport = on;
  }

  focus(): void {
    this.rfb?.focus();
  }

  combination({ keys }: Combination): void {
    for (const { keysym, code } of keys) this.rfb?.sendKey(keysym, code, true);
    for (const { keysym, code } of keys.toReversed()) this.rfb?.sendKey(keysym, code, false);
  }

  type(stroke: Stroke): void {
    for (const { keysym, code, down } of pressesOf(stroke)) this.rfb?.sendKey(keysym, code, down);
  }

  screenshot(): Promise<Blob | null> {
    const { rfb } = this;
    if (rfb === undefined) return Promise.resolve(null);
    return new Promise((resolve) => rfb.toBlob(resolve, 'image/png'));
  }

  dispose(): void {
    this.detach();
  }
}
