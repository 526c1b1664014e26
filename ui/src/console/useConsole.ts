/** Ties a page to its connection and its driver. */
import { useEffect, useRef, useState, type RefObject } from 'react';

import { shortName } from '../fleet/fleet';
import { Connection } from './connection';
import type { Driver, MakeDriver } from './driver';
import { Tickets, type Mode, type Resumable } from './exchange';
import type { Opening } from './fragment';
import type { State } from './session';

export type Kind = 'vnc' | 'spice' | 'serial';

export type PageState = State | { at: 'ended'; reason: 'no_ticket'; detail: string };

export interface Console {
  state: PageState;
  name: string;
  mode: Mode;
  driver: Driver | undefined;
  connection: Connection | undefined;
  place: RefObject<HTMLDivElement | null>;
}

const NO_TICKET: PageState = { at: 'ended', reason: 'no_ticket', detail: '' };

export function useConsole(
  kind: Kind,
  opening: Opening | undefined,
  make: MakeDriver,
  lost: (count: number) => string,
): Console {
  const place = useRef<HTMLDivElement>(null);
  const [state, setState] = useState<PageState>(opening ? { at: 'starting', attempt: 0 } : NO_TICKET);
  const [grant, setGrant] = useState<Resumable>();
  const [parts, setParts] = useState<{ driver: Driver; connection: Connection }>();
  // The effect below runs once; texts and factories that change later do not concern it.
  const once = useRef({ kind, opening, make, lost });

  useEffect(() => {
    const { kind, opening, make, lost } = once.current;
    if (opening === undefined || place.current === null) return undefined;
    let driver: Driver | undefined;
    const tickets = new Tickets(opening.ticket);
    void make(place.current, { lost, nextTicket: () => tickets.next() }).then((made) => {
      driver = made;
      const connection = new Connection(tickets, made, {
        state: setState,
        grant: (next) => {
          made.viewOnly(next.ticket.mode === 'view');
          setGrant(next);
          if (next.ticket.kind !== kind) connection.fail('kind', next.ticket.kind);
        },
      });
      setParts({ driver: made, connection });
      connection.start();
    });
    return () => driver?.dispose();
  }, []);

  return {
    state,
    name: grant ? shortName({ name: grant.name, id: grant.vm }) : (opening?.vm ?? ''),
    mode: grant?.ticket.mode ?? 'share',
    driver: parts?.driver,
    connection: parts?.connection,
    place,
  };
}
