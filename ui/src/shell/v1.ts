/** Calls of the v1 API, typed by its OpenAPI document: a route or a field that is gone fails the type check. */
import type { components, paths } from '../types/v1';
import { call, type Call } from './api';

export type Schemas = components['schemas'];

type Verb = 'get' | 'post' | 'delete';
type Good = 200 | 201 | 202 | 204;

/** What a JSON answer or body holds; nothing where there is none. */
type Json<T> = T extends { content: { 'application/json': infer Content } } ? Content : undefined;
type PathsWith<V extends Verb> = { [P in keyof paths]: paths[P][V] extends object ? P : never }[keyof paths];
type Answer<Operation> = Operation extends { responses: infer All }
  ? { [Status in keyof All & Good]: Json<All[Status]> }[keyof All & Good]
  : never;
type Field<T, Name extends string> = T extends { [N in Name]?: infer Value } ? Value : never;
type Parameters<Operation, Kind extends string> = Field<Field<Operation, 'parameters'>, Kind>;

interface Ask<Operation> extends Pick<Call, 'token' | 'signal'> {
  path?: Parameters<Operation, 'path'>;
  query?: Parameters<Operation, 'query'>;
  body?: Json<Field<Operation, 'requestBody'>>;
}

/** `/v1/hosts/{host}` with its parts, escaped. */
export function filled(path: string, parts: Record<string, unknown> = {}): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(parts[name])));
}

/** Asks, and gives the answer's JSON, or throws a `Problem`. */
export function v1<V extends Verb, P extends PathsWith<V>>(
  verb: V,
  path: P,
  how: Ask<paths[P][V]> = {},
): Promise<Answer<paths[P][V]>> {
  const { path: parts, query, ...rest } = how;
  const asked = new URLSearchParams(
    Object.entries(query ?? {}).map(([name, value]): [string, string] => [name, String(value)]),
  ).toString();
  const method = verb.toUpperCase() as NonNullable<Call['method']>;
  return call(filled(path, parts ?? {}) + (asked && `?${asked}`), { method, ...rest });
}
