/** Reads the gateway's OpenAPI document into what the generic screens need. */

export interface Text {
  zh: string;
  en: string;
}

export type Kind =
  | "text"
  | "integer"
  | "decimal"
  | "boolean"
  | "choice"
  | "date"
  /** A day as text, `2026-03-05`. */
  | "day"
  | "instant"
  | "money"
  | "reference"
  | "dictionary"
  | "keyed"
  | "object"
  /** A time on the wall of a zone, `2026-03-08T09:30`, without the zone. */
  | "localTime"
  | "recurrence"
  | "free";

export interface Choice {
  value: string;
  label: Text;
}

export interface ShowWhen {
  field: string;
  is: string[];
}

export interface Field {
  name: string;
  label: Text;
  kind: Kind;
  /** True where the property is a list of `kind`. */
  many: boolean;
  required: boolean;
  readOnly: boolean;
  immutable: boolean;
  searchable: boolean;
  listed: boolean;
  quick: boolean;
  multiline: boolean;
  /** What kind of text it is, where it is of one: "uri", "email", "tel". */
  format: string;
  /** What stands behind a number: "%". */
  unit: string;
  /** Taken, and never shown again. */
  secret: boolean;
  /** Collections that the value may name; empty where it may name any. */
  references: string[];
  dictionary: string;
  choices: Choice[];
  /** Where the items of a keyed field are listed. */
  keyed: Keyed | undefined;
  /** Where the texts of a list are chosen from, beside typing them. */
  suggest: Suggestion | undefined;
  /** A text that is a decimal number. */
  exact: boolean;
  /** Fields of an object or of each item of a list of objects. */
  fields: Field[];
  maxLength: number | undefined;
  /** Which values of another field it is shown for; always where undefined. */
  showWhen: ShowWhen | undefined;
  help: string;
}

export interface Verb {
  /** Last part of the path: `win` in `/v1/opportunities/{opportunity}:win`. */
  name: string;
  rpc: string;
  label: Text;
  permission: string;
  /** Parameters beside name, etag and request id. */
  fields: Field[];
  /** False for verbs of the collection rather than of one record. */
  onRecord: boolean;
}

export interface Resource {
  collection: string;
  /** What a body of many calls one record: `account`. */
  singular: string;
  area: string;
  label: Text;
  titleField: string;
  menu: string;
  permissions: { read: string; create?: string; update?: string; delete?: string };
  fields: Field[];
  verbs: Verb[];
  has: {
    list: boolean;
    create: boolean;
    update: boolean;
    delete: boolean;
    batchUpdate: boolean;
    aggregate: boolean;
  };
}

/** What the kit lets roles give beyond the calls of a collection. */
const FURTHER: Record<string, Text> = {
  assign: { zh: "转给他人", en: "give to others" },
  across: { zh: "跨板块", en: "across segments" },
  announce: { zh: "发布公告", en: "announce" },
  archive: { zh: "归档", en: "archive" },
  assign_any: { zh: "转给任何人", en: "give to anybody" },
  close: { zh: "结账", en: "close" },
  create_despite: { zh: "有相似时仍新建", en: "create despite a likeness" },
  explain: { zh: "解释他人权限", en: "explain others' access" },
  free_text: { zh: "自由文本行", en: "lines of free text" },
  import: { zh: "导入", en: "import" },
  manage: { zh: "管理", en: "manage" },
  moderate: { zh: "管理内容", en: "moderate" },
  publish: { zh: "发布", en: "publish" },
  readSensitive: { zh: "查看敏感信息", en: "read what is sensitive" },
  read_cost: { zh: "查看成本", en: "read costs" },
  read_internal: { zh: "查看内部备注", en: "read internal notes" },
  read_list_price: { zh: "查看目录价", en: "read list prices" },
  read_sensitive: { zh: "查看敏感信息", en: "read what is sensitive" },
  read_trace: { zh: "查看价格构成", en: "read how prices came about" },
  read_values: { zh: "查看变更前后的值", en: "read values before and after" },
  report: { zh: "上报", en: "report" },
  requestCollaboration: { zh: "申请协作", en: "ask to collaborate" },
  restructure: { zh: "调整结构", en: "restructure" },
  simulate: { zh: "试算", en: "simulate" },
  start: { zh: "发起", en: "start" },
  timeline: { zh: "重建时间线", en: "rebuild time lines" },
  unlimited: { zh: "不限行数", en: "any number of rows" },
  upTo20000: { zh: "至多 2 万行", en: "up to 20,000 rows" },
  upTo200000: { zh: "至多 20 万行", en: "up to 200,000 rows" },
  verify: { zh: "校验", en: "verify" },
  work: { zh: "处理", en: "work on" },
};

export class Catalogue {
  private readonly byCollection: Map<string, Resource>;
  private readonly permissionTexts: Map<string, Text>;

  constructor(
    readonly resources: readonly Resource[],
    /** Every permission that some call asks for. */
    readonly permissions: readonly string[],
    /** What each business fact is called, by its full name. */
    readonly facts: Readonly<Record<string, Text>> = {},
  ) {
    this.byCollection = new Map(resources.map((resource) => [resource.collection, resource]));
    this.permissionTexts = new Map(
      resources.flatMap((resource) =>
        actionsOf(resource).map(({ permission, label }) => [permission, joined(resource.label, label)]),
      ),
    );
  }

  find(collection: string): Resource | undefined {
    return this.byCollection.get(collection);
  }

  /** "Customer · change (owner)" for `customer.accounts.update:owner`: what a policy holds. */
  actionText(action: string): Text {
    const [permission = "", names] = action.split(":");
    const text = this.permissionText(permission);
    const fields = this.find(permission.split(".")[1] ?? "")?.fields ?? [];
    const labels = names?.split(",").map((name) => fields.find((field) => field.name === name)?.label);
    const named = labels?.filter((label) => label !== undefined);
    if (!named || named.length === 0) return text;
    return {
      zh: `${text.zh}（${named.map(({ zh }) => zh).join("、")}）`,
      en: `${text.en} (${named.map(({ en }) => en).join(", ")})`,
    };
  }

  /** "Contract · sign" for `orders.contracts.sign`; a pattern with a star stays as it is. */
  permissionText(permission: string): Text {
    const known = this.permissionTexts.get(permission);
    if (known) return known;
    const [, collection = "", action = ""] = permission.split(".");
    const resource = this.find(collection);
    const further = FURTHER[action];
    if (!further) return { zh: permission, en: permission };
    // What concerns no resource says all by itself.
    return resource ? joined(resource.label, further) : further;
  }

  /** The same without fields that name what is not `shown`: to people outside these say nothing. */
  without(shown: (field: Field) => boolean): Catalogue {
    const resources = this.resources.map((resource) => ({
      ...resource,
      fields: resource.fields.filter(shown),
      verbs: resource.verbs.map((verb) => ({ ...verb, fields: verb.fields.filter(shown) })),
    }));
    return new Catalogue(resources, this.permissions, this.facts);
  }

  /** Resources with a field that may name a record of the collection, with that field. */
  referring(collection: string): { resource: Resource; field: Field }[] {
    return this.resources.flatMap((resource) =>
      resource.has.list
        ? resource.fields
            .filter((field) => field.kind === "reference" && field.references.includes(collection))
            .map((field) => ({ resource, field }))
        : [],
    );
  }
}

/** Fields that the platform adds to every resource; shown in the header, not in the sections. */
export const COMMON = new Set([
  "name",
  "number",
  "owner",
  "department",
  "collaborators",
  "pendingApproval",
  "createTime",
  "updateTime",
  "deleteTime",
  "creator",
  "custom",
  "etag",
]);

/** What the declaration of the screens adds to a field. */
export interface Additions {
  keyed?: Record<string, Keyed>;
  suggest?: Record<string, Suggestion>;
  /** Texts that name records, and of which collections. */
  references?: Record<string, string[]>;
  /** Texts that hold something with an input of its own. */
  kinds?: Record<string, "localTime" | "recurrence">;
}

export interface Keyed {
  collection: string;
  list: string;
  key: string;
  label: { zh: string; en: string };
}

/**
 * What is known from the description alone. Collections, actions and facts make a choice of the field, so that
 * nobody types or reads a code.
 */
export type Suggestion =
  | { collection: string; value: string }
  | "permissions"
  | "collections"
  | "actions"
  | "facts"
  | "deeds"
  | "moments";

export interface Schema {
  $ref?: string;
  allOf?: Schema[];
  oneOf?: Schema[];
  anyOf?: Schema[];
  type?: string | string[];
  format?: string;
  description?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  enum?: string[];
  required?: string[];
  readOnly?: boolean;
  maxLength?: number;
  "x-label"?: Text;
  "x-enum-labels"?: Record<string, Text>;
  "x-searchable"?: boolean;
  "x-listed"?: boolean;
  "x-quick"?: boolean;
  "x-required"?: boolean;
  "x-immutable"?: boolean;
  "x-multiline"?: boolean;
  "x-hidden"?: boolean;
  "x-unit"?: string;
  "x-shown-when"?: ShowWhen;
  "x-reference"?: string[] | string;
  "x-dictionary"?: string;
  "x-resource"?: ResourceNote;
}

interface ResourceNote {
  collection: string;
  area?: string;
  label?: Text;
  titleField?: string;
  menu?: string;
  permissions?: Resource["permissions"];
  verbs?: {
    name: string;
    rpc?: string;
    label?: Text;
    permission?: string;
    path?: string;
    request?: string;
  }[];
}

export interface OpenApi {
  paths: Record<string, Record<string, unknown>>;
  components: { schemas: Record<string, Schema> };
  "x-facts"?: Record<string, Text>;
}

export function readCatalogue(document: OpenApi, additions: (collection: string) => Additions): Catalogue {
  const schemas = document.components.schemas;
  const paths = Object.keys(document.paths);
  const has = (pattern: RegExp, method: string) =>
    paths.some((path) => pattern.test(path) && document.paths[path]?.[method] !== undefined);

  const resources = Object.entries(schemas).flatMap(([schema, body]): Resource[] => {
    const note = body["x-resource"];
    if (!note) return [];
    const one = new RegExp(`^/v1/${note.collection}/\\{[^}]+\\}$`);
    const all = new RegExp(`^/v1/${note.collection}$`);
    return [
      {
        collection: note.collection,
        singular: lowerFirst(schema.split(".").at(-1) ?? schema),
        area: note.area ?? "",
        label: note.label ?? textOf(schema),
        titleField: note.titleField || "displayName",
        menu: note.menu ?? "",
        permissions: note.permissions ?? { read: "" },
        fields: [
          ...readFields(body, schemas, 0, additions(note.collection)).map((field) =>
            // Records without a title are called by their kind; so is the column that leads to them.
            field.name === "name" && note.label ? { ...field, label: note.label } : field,
          ),
          ...readCustom(body, schemas),
        ],
        verbs: (note.verbs ?? []).map((verb) => ({
          name: verb.name,
          rpc: verb.rpc ?? verb.name,
          label: verb.label ?? textOf(verb.name),
          permission: verb.permission ?? "",
          fields: verb.request
            ? readFields(
                schemas[lastPart(verb.request)] ?? {},
                schemas,
                0,
                additions(note.collection),
              ).filter((field) => !["name", "etag", "requestId"].includes(field.name))
            : [],
          onRecord: verb.path === undefined || verb.path.includes("}:"),
        })),
        has: {
          list: has(all, "get"),
          create: has(all, "post"),
          update: has(one, "patch"),
          delete: has(one, "delete"),
          batchUpdate: has(new RegExp(`^/v1/${note.collection}:batchUpdate$`), "post"),
          aggregate: has(new RegExp(`^/v1/${note.collection}:aggregate$`), "get"),
        },
      },
    ];
  });
  const permissions = Object.values(document.paths)
    .flatMap((path) => Object.values(path))
    .map((operation) => (operation as { "x-permission"?: string })["x-permission"])
    .filter((permission) => permission !== undefined && permission !== "*" && permission !== "public");
  const catalogue = new Catalogue(
    resources,
    [...new Set(permissions as string[])].toSorted(),
    document["x-facts"] ?? {},
  );
  nameCodes(catalogue);
  return catalogue;
}

/** Codes of collections and of actions become choices with the words that people know. */
function nameCodes(catalogue: Catalogue): void {
  const { resources, facts } = catalogue;
  const collections = resources
    .filter((resource) => resource.has.list)
    .map((resource) => ({ value: resource.collection, label: resource.label }));
  const reading = new Set(resources.map(({ permissions }) => permissions.read));
  const actions = [
    ...resources.flatMap(actionsOf).map(({ permission }) => permission),
    ...catalogue.permissions,
  ]
    .filter((permission) => !reading.has(permission))
    .map((permission) => ({ value: permission, label: catalogue.permissionText(permission) }));
  const moments = resources
    .filter((resource) => resource.fields.some(({ name }) => name === "number"))
    .flatMap(actionsOf)
    .map(({ permission, label }) => ({ value: permission.slice(permission.lastIndexOf(".") + 1), label }))
    .filter(({ value }) => !["read", "update", "delete"].includes(value));
  const known = {
    collections,
    // What a record of some collection may get its number by; which of them it has, the server knows.
    moments: [...new Map(moments.map((one) => [one.value, one])).values()],
    actions: [...new Map(actions.map((one) => [one.value, one])).values()],
    facts: Object.entries(facts).map(([value, label]) => ({ value, label })),
    deeds: [
      ...CHANGES,
      ...Object.entries(facts).map(([value, label]) => ({
        value: value.slice(value.lastIndexOf(".") + 1),
        label,
      })),
    ],
  };
  const name = (field: Field): void => {
    if (typeof field.suggest === "string" && field.suggest !== "permissions") {
      field.kind = "choice";
      field.choices = known[field.suggest];
    }
    field.fields.forEach(name);
  };
  resources.forEach((resource) => {
    resource.fields.forEach(name);
    resource.verbs.forEach((verb) => verb.fields.forEach(name));
  });
}

const CHANGES: Choice[] = [
  { value: "CREATED", label: { zh: "新建", en: "Created" } },
  { value: "UPDATED", label: { zh: "修改", en: "Changed" } },
  { value: "DELETED", label: { zh: "删除", en: "Deleted" } },
];

const STANDARD: Record<keyof Resource["permissions"], Text> = {
  read: { zh: "查看", en: "See" },
  create: { zh: "新建", en: "Create" },
  update: { zh: "修改", en: "Change" },
  delete: { zh: "删除", en: "Delete" },
};

/** What may be done with records of a collection, and the permission that it takes. */
export function actionsOf(resource: Resource): { permission: string; label: Text }[] {
  const standard = (Object.keys(STANDARD) as (keyof Resource["permissions"])[]).flatMap((key) => {
    const permission = resource.permissions[key];
    return permission ? [{ permission, label: STANDARD[key] }] : [];
  });
  const taken = new Set(standard.map(({ permission }) => permission));
  return [
    ...standard,
    ...resource.verbs
      .filter((verb) => verb.permission && !["*", "public"].includes(verb.permission))
      .filter((verb) => !taken.has(verb.permission) && taken.add(verb.permission))
      .map((verb) => ({ permission: verb.permission, label: verb.label })),
  ];
}

const joined = (first: Text, second: Text): Text => ({
  zh: `${first.zh} · ${second.zh}`,
  en: `${first.en} · ${second.en.toLowerCase()}`,
});

// A message may contain itself; three levels are more than any form shows.
const DEPTH = 3;

function readFields(
  schema: Schema,
  schemas: Record<string, Schema>,
  depth: number,
  additions: Additions,
): Field[] {
  if (depth > DEPTH) return [];
  const body = resolve(schema, schemas).schema;
  const required = new Set(body.required ?? []);
  return Object.entries(body.properties ?? {}).map(([name, property]) =>
    readField(name, property, required.has(name), schemas, depth, additions),
  );
}

/** The fields that administrators have added, by the name that filters and orders have for them. */
function readCustom(body: Schema, schemas: Record<string, Schema>): Field[] {
  const custom = body.properties?.["custom"];
  if (!custom) return [];
  const shown = Object.entries(custom.properties ?? {}).filter(([, property]) => !property["x-hidden"]);
  return readFields({ ...custom, properties: Object.fromEntries(shown) }, schemas, 1, {}).map((field) => ({
    ...field,
    name: `custom.${field.name}`,
    quick: field.required,
  }));
}

function readField(
  name: string,
  property: Schema,
  required: boolean,
  schemas: Record<string, Schema>,
  depth: number,
  additions: Additions,
): Field {
  const outer = resolve(property, schemas);
  const many = isType(outer.schema, "array");
  const inner = many ? resolve(outer.schema.items ?? {}, schemas) : outer;
  const note: Schema = { ...inner.schema, ...(many ? outer.schema : {}), ...property };
  const references = additions.references?.[name] ?? [note["x-reference"] ?? []].flat();
  const choices = inner.schema.enum ?? outer.schema.enum ?? [];
  const labels = note["x-enum-labels"] ?? inner.schema["x-enum-labels"] ?? {};
  const keyed = additions.keyed?.[name];
  const kind = keyed
    ? "keyed"
    : additions.references?.[name]
      ? "reference"
      : (additions.kinds?.[name] ?? kindOf(inner.schema, inner.ref, note));
  return {
    name,
    label: note["x-label"] ?? textOf(name),
    kind,
    many,
    required: required || note["x-required"] === true,
    readOnly: note.readOnly === true,
    immutable: note["x-immutable"] === true,
    searchable: note["x-searchable"] === true,
    listed: note["x-listed"] === true,
    quick: note["x-quick"] === true,
    multiline: note["x-multiline"] === true,
    format: note.format ?? "",
    unit: note["x-unit"] ?? "",
    secret: note.format === "password",
    references,
    dictionary: note["x-dictionary"] ?? "",
    choices: choices
      .filter((value) => !value.endsWith("_UNSPECIFIED"))
      .map((value) => ({ value, label: labels[value] ?? textOf(value.toLowerCase()) })),
    fields:
      kind === "object"
        ? readFields(inner.schema, schemas, depth + 1, {
            keyed: below(additions.keyed, name),
            suggest: below(additions.suggest, name),
            references: below(additions.references, name),
            kinds: below(additions.kinds, name),
          })
        : [],
    exact: inner.schema.format === "decimal",
    maxLength: note.maxLength,
    showWhen: note["x-shown-when"],
    keyed,
    suggest: additions.suggest?.[name],
    help: note.description ?? "",
  };
}

/** What is said of the fields of an object by their path: `stageHistory.stage`. */
const below = <T>(said: Record<string, T> | undefined, name: string): Record<string, T> =>
  Object.fromEntries(
    Object.entries(said ?? {}).flatMap(([path, value]) =>
      path.startsWith(`${name}.`) ? [[path.slice(name.length + 1), value]] : [],
    ),
  );

function kindOf(schema: Schema, ref: string, note: Schema): Kind {
  const properties = Object.keys(schema.properties ?? {});
  if (ref === "Money" || (properties.length === 2 && properties.includes("currencyCode"))) return "money";
  if (
    ref === "Date" ||
    (properties.length === 3 && ["year", "month", "day"].every((part) => properties.includes(part)))
  )
    return "date";
  if (note["x-dictionary"]) return "dictionary";
  if (note["x-reference"]) return "reference";
  if (schema.enum) return "choice";
  if (schema.format === "date-time") return "instant";
  if (schema.format === "date") return "day";
  if (isType(schema, "boolean")) return "boolean";
  if (isType(schema, "integer")) return "integer";
  if (isType(schema, "number")) return "decimal";
  if (isType(schema, "string")) return "text";
  return properties.length > 0 ? "object" : "free";
}

/** Follows `$ref`, a single `allOf` and "or null"; remembers the last name on the way. */
function resolve(schema: Schema, schemas: Record<string, Schema>): { schema: Schema; ref: string } {
  let current = schema;
  let ref = "";
  for (let step = 0; step < 8; step++) {
    const wrapped = current.allOf ?? current.oneOf ?? current.anyOf;
    if (current.$ref) {
      ref = lastPart(current.$ref);
      current = schemas[ref] ?? {};
    } else if (wrapped && !current.properties) {
      const inner = wrapped.find((option) => !isType(option, "null"));
      if (!inner) break;
      current = inner;
    } else break;
  }
  return { schema: current, ref: ref.split(".").at(-1) ?? "" };
}

const isType = (schema: Schema, type: string) =>
  schema.type === type || (Array.isArray(schema.type) && schema.type.includes(type));

const lowerFirst = (name: string) => name.charAt(0).toLowerCase() + name.slice(1);

const lastPart = (pointer: string) => pointer.slice(pointer.lastIndexOf("/") + 1);

/** `expectedCloseDate` → "Expected close date", for what came without a label. */
function textOf(name: string): Text {
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .replaceAll("_", " ")
    .toLowerCase();
  const title = words.charAt(0).toUpperCase() + words.slice(1);
  return { zh: title, en: title };
}
