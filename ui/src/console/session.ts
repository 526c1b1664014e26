/**
 * When a console page comes back, and when it does not: decisions only, no sockets and no timers.
 *
 * ```text
 *  starting --ticket, websocket open--> connected --close 1006, 1011, 1012..--> waiting --timer--> starting
 *     |  ^                                  |
 *     |  +------------- "reconnect" --------+--close 1000, 1008--> ended
 *     +--no ticket: expired, off, forbidden--------------------------^
 * ```
 */
import type { Problem } from '../shell/api';

/** Why a session is over. The page has a text for each. */
export type EndReason =
  | 'closed'
  | 'ended'
  | 'used'
  | 'off'
  | 'forbidden'
  | 'gone'
  | 'kind'
  | 'gave_up'
  | 'by_user'
  | 'failed';

export type State =
  | { at: 'starting'; attempt: number }
  | { at: 'connected' }
  | { at: 'waiting'; attempt: number; delayMs: number }
  | { at: 'ended'; reason: EndReason; detail: string };

export type Event =
  | { is: 'connected' }
  | { is: 'closed'; code: number; reason: string }
  | { is: 'refused'; problem: Problem }
  | { is: 'timer' }
  | { is: 'reconnect' }
  | { is: 'disconnect' }
  | { is: 'failed'; reason: EndReason; detail: string };

/** Nobody waits longer than this for the next attempt, milliseconds. */
const LONGEST_DELAY_MS = 15_000;
/** About five minutes: longer than any restart of a service, shorter than a forgotten tab. */
const MOST_ATTEMPTS = 25;

const NORMAL = 1000;
const ENDED = 1008;

export const START: State = { at: 'starting', attempt: 0 };

/** Delay before an attempt, with up to a quarter of jitter so that a thousand tabs do not come as one. */
export function delayOf(attempt: number, random: number): number {
  const base = Math.min(500 * 2 ** Math.min(attempt, 10), LONGEST_DELAY_MS);
  return Math.round(base * (0.75 + 0.25 * random));
}

function again(attempt: number, random: number, detail: string): State {
  if (attempt >= MOST_ATTEMPTS) return { at: 'ended', reason: 'gave_up', detail };
  return { at: 'waiting', attempt: attempt + 1, delayMs: delayOf(attempt, random) };
}

function refusal(problem: Problem): EndReason | undefined {
  switch (problem.status) {
    case 401:
      return 'used';
    case 403:
      return 'forbidden';
    case 404:
      return problem.code === 'no_such_route' ? 'failed' : 'gone';
    case 409:
      return 'off';
    case 0:
    case 429:
      return undefined;
    default:
      return problem.status >= 500 ? undefined : 'failed';
  }
}

/** Attempts made so far without a connection that held. */
function attempts(state: State): number {
  return state.at === 'starting' || state.at === 'waiting' ? state.attempt : 0;
}

/** The state after an event. */
export function next(state: State, event: Event, random: number): State {
  if (event.is === 'disconnect') return { at: 'ended', reason: 'by_user', detail: '' };
  if (event.is === 'failed') return { at: 'ended', reason: event.reason, detail: event.detail };
  if (event.is === 'reconnect') return state.at === 'connected' ? state : START;
  switch (state.at) {
    case 'waiting':
      return event.is === 'timer' ? { at: 'starting', attempt: state.attempt } : state;
    case 'ended':
      return state;
    case 'starting':
    case 'connected':
      return fromLive(state, event, random);
  }
}

function fromLive(state: State, event: Event, random: number): State {
  switch (event.is) {
    case 'connected':
      return { at: 'connected' };
    case 'refused': {
      const { problem } = event;
      const reason = refusal(problem);
      if (reason === undefined) return again(attempts(state), random, problem.message);
      return { at: 'ended', reason, detail: problem.message };
    }
    case 'closed':
      if (event.code === NORMAL) return { at: 'ended', reason: 'closed', detail: event.reason };
      if (event.code === ENDED) return { at: 'ended', reason: 'ended', detail: event.reason };
      return again(attempts(state), random, event.reason);
    default:
      return state;
  }
}
