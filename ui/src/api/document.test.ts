import { expect, it } from 'vitest';

import committed from '../../../openapi/v1.json';
import { about, answers, bodyOf, fields, groups, limits, shape, type ApiDocument } from './document';

const document = committed as unknown as ApiDocument;
const find = (id: string) => {
  const entry = groups(document, id).flatMap(({ entries }) => entries).find(({ operation }) => operation.operationId === id);
  if (entry === undefined) throw new Error(id);
  return entry;
};

it('shows every operation of the document, under one tag', () => {
  const shown = groups(document, '').flatMap(({ entries }) => entries.map(({ method, path }) => `${method} ${path}`));
  const there = Object.values(document.paths).reduce((sum, item) => sum + Object.keys(item).length, 0);
  expect(new Set(shown).size).toBe(there);
  expect(shown.length).toBe(there);
  expect(groups(document, 'snapshot delete').flatMap(({ entries }) => entries.map(({ path }) => path))).toEqual([
    '/v1/hosts/{host}/vms/{vm}/snapshots/{name}',
  ]);
  expect(groups(document, 'no such thing')).toEqual([]);
});

it('names types and limits', () => {
  expect(shape({ oneOf: [{ $ref: '#/components/schemas/Arch' }, { type: 'null' }] })).toBe('Arch | null');
  expect(shape({ type: 'array', items: { type: 'string' } })).toBe('string[]');
  expect(shape({ type: 'object', additionalProperties: { type: 'string' } })).toBe('{ [name]: string }');
  expect(shape({ enum: ['a', 'b'] })).toBe('"a" | "b"');
  expect(limits(document, { minimum: 1, maximum: 512 })).toBe('1 … 512');
  expect(limits(document, { minimum: 0, maximum: 2 ** 64 })).toBe('');
  expect(limits(document, { pattern: '^a$' })).toBe('^a$');
  const arch = { oneOf: [{ $ref: '#/components/schemas/Arch', description: 'Words' }, { type: 'null' }] };
  expect(limits(document, arch)).toBe('"x86_64" | "aarch64"');
  expect(about(arch)).toBe('Words');
});

it('has the fields of bodies and of answers that are put together', () => {
  const body = bodyOf(find('create_vm').operation.requestBody);
  const create = body && fields(document, body);
  expect(create?.find(({ name }) => name === 'name')?.required).toBe(true);
  expect(create?.find(({ name }) => name === 'vcpus')?.schema).toMatchObject({ maximum: 512 });
  const list = answers(document, find('list_fleet').operation);
  const rows = list.find(({ status }) => status === '200')?.body;
  expect(rows && shape(rows)).toBe('VmView[]');
  expect(rows && fields(document, rows).map(({ name }) => name)).toEqual(expect.arrayContaining(['id', 'host', 'state']));
  expect(list.find(({ status }) => status === '401')).toMatchObject({ about: 'Unauthorized', body: { $ref: expect.stringContaining('Problem') } });
});
