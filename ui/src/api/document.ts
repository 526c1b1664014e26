/** What the page reads of an OpenAPI document, in the order in which it shows it. */

export interface Schema {
  $ref?: string;
  type?: string | string[];
  enum?: unknown[];
  items?: Schema;
  oneOf?: Schema[];
  allOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  description?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
}

interface Content {
  content?: Record<string, { schema?: Schema }>;
}

export interface Operation {
  operationId: string;
  summary?: string;
  description?: string;
  tags?: string[];
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema?: Schema }[];
  requestBody?: Content;
  responses: Record<string, Content & { $ref?: string; description?: string }>;
  security?: object[];
}

export interface ApiDocument {
  info: { title: string; version: string; description?: string };
  tags: { name: string; description?: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema>; responses: Record<string, Content & { description?: string }> };
}

export interface Entry {
  method: string;
  path: string;
  operation: Operation;
}

export interface Field {
  name: string;
  schema: Schema;
  required: boolean;
}

const nameOf = (ref: string): string => ref.slice(ref.lastIndexOf('/') + 1);

/** Operations by tag, in the document's order; those that have all words of the filter. */
export function groups(document: ApiDocument, filter: string): { tag: string; about: string; entries: Entry[] }[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const all = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]): Entry => ({ method: method.toUpperCase(), path, operation })),
  );
  const fits = ({ method, path, operation }: Entry): boolean => {
    const shown = `${method} ${path} ${operation.operationId} ${operation.summary ?? ''}`.toLowerCase();
    return words.every((word) => shown.includes(word));
  };
  return document.tags
    .map(({ name, description = '' }) => ({
      tag: name,
      about: description,
      entries: all.filter((entry) => entry.operation.tags?.includes(name) === true && fits(entry)),
    }))
    .filter(({ entries }) => entries.length > 0);
}

/** A type in one line, `ResourceName | null`; what has a name is named. */
export function shape(schema: Schema | undefined): string {
  if (schema === undefined) return 'any';
  if (schema.$ref !== undefined) return nameOf(schema.$ref);
  if (schema.enum !== undefined) return schema.enum.map((each) => JSON.stringify(each)).join(' | ');
  if (schema.oneOf !== undefined) return schema.oneOf.map(shape).join(' | ');
  if (schema.allOf !== undefined) return schema.allOf.map(shape).join(' & ');
  const { type = 'any', items, additionalProperties } = schema;
  if (Array.isArray(type)) return type.join(' | ');
  if (type === 'array') return `${shape(items)}[]`;
  if (type === 'object' && typeof additionalProperties === 'object') return `{ [name]: ${shape(additionalProperties)} }`;
  return type;
}

function resolved(document: ApiDocument, schema: Schema): Schema {
  const named = schema.$ref === undefined ? undefined : document.components.schemas[nameOf(schema.$ref)];
  return named ?? schema;
}

/** The schema that has the fields: of a list its rows', of what may be null the other one. */
export function inner(document: ApiDocument, schema: Schema): Schema {
  const known = resolved(document, schema);
  if (known.items !== undefined) return inner(document, known.items);
  const others = known.oneOf?.filter((each) => each.type !== 'null');
  return others?.length === 1 && others[0] !== undefined ? inner(document, others[0]) : known;
}

/** The words for people; what may be null has them one level deeper. */
export const about = (schema: Schema): string =>
  schema.description ?? schema.oneOf?.find(({ description }) => description !== undefined)?.description ?? '';

/** What a value must be beside its type: `1 … 512`, a pattern, the words of a type that has a name. */
export function limits(document: ApiDocument, schema: Schema): string {
  const { minimum, maximum, pattern, enum: words } = inner(document, schema);
  // Above it a number is one in name only.
  const most = maximum !== undefined && maximum <= Number.MAX_SAFE_INTEGER ? maximum : undefined;
  const range = most === undefined && !minimum ? '' : `${minimum ?? ''} … ${most ?? ''}`.trim();
  const named = schema.enum === undefined && words !== undefined ? shape({ enum: words }) : '';
  return [range, pattern ?? '', named].filter(Boolean).join(', ');
}

/** Fields of an object, also of one that is put together; none of anything else. */
export function fields(document: ApiDocument, schema: Schema): Field[] {
  const { properties = {}, required = [], allOf = [] } = inner(document, schema);
  return [
    ...allOf.flatMap((part) => fields(document, part)),
    ...Object.entries(properties).map(([name, of]) => ({ name, schema: of, required: required.includes(name) })),
  ];
}

/** The schema of a body or an answer. */
export const bodyOf = (content: Content | undefined): Schema | undefined => Object.values(content?.content ?? {})[0]?.schema;

/** Status, words and body of each answer; failures are described once for all. */
export function answers(document: ApiDocument, operation: Operation): { status: string; about: string; body?: Schema }[] {
  return Object.entries(operation.responses).map(([status, answer]) => {
    const known = answer.$ref === undefined ? answer : document.components.responses[nameOf(answer.$ref)];
    const body = bodyOf(known);
    return { status, about: known?.description ?? '', ...(body && { body }) };
  });
}
