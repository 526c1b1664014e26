/** The guests: read once, then kept by the gateway's events; read again and again where those fail. */
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';

import type { Fleet, Guest } from './fleet';
import { LiveList } from './live';

/** Without events. The list comes from the gateway's memory: asking often costs it little. */
const POLL_MS = 3000;
/** With events: how old the last known state of a host that is away is, no event tells. */
const LIVE_POLL_MS = 30_000;
const KEY = ['guests'];

export function useLiveGuests(fleet: Fleet) {
  const queries = useQueryClient();
  const [list] = useState(() => new LiveList());
  const [live, setLive] = useState(false);
  const query = useQuery({
    queryKey: KEY,
    queryFn: ({ signal }) => list.read(() => fleet.guests(signal)),
    refetchInterval: live ? LIVE_POLL_MS : POLL_MS,
  });
  useEffect(() => {
    const leaving = new AbortController();
    // A list that was asked for before the stream began may lack what changed in between.
    const readAgain = async () => {
      await queries.cancelQueries({ queryKey: KEY });
      await queries.invalidateQueries({ queryKey: KEY });
    };
    void fleet.follow(leaving.signal, {
      onState: setLive,
      onEvent: (event, data) => {
        if (event === 'resync') void readAgain();
        else queries.setQueryData<Guest[]>(KEY, (guests) => list.take(guests, { event, data }));
      },
    });
    return () => leaving.abort();
  }, [fleet, queries, list]);
  return query;
}
