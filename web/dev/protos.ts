import { readdirSync, readFileSync, existsSync } from "node:fs";
import { join } from "node:path";

/** Reads our own protos well enough to describe them as the gateway does. For the fixture alone. */

type Schema = Record<string, unknown>;
interface Message {
  name: string;
  options: string;
  fields: { type: string; repeated: boolean; map: boolean; name: string; options: string }[];
}

const camel = (name: string) => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
const SCALARS: Record<string, Schema> = {
  string: { type: "string" },
  bool: { type: "boolean" },
  int32: { type: "integer" },
  double: { type: "number" },
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.type.Date": { $ref: "#/components/schemas/Date" },
  "google.protobuf.Struct": { type: "object" },
  "crm.common.v1.Money": { $ref: "#/components/schemas/Money" },
};

export function describe(roots: string[]) {
  const schemas: Record<string, Schema> = {
    Money: { type: "object", properties: { currencyCode: { type: "string" }, amount: { type: "string" } } },
    Date: {
      type: "object",
      properties: { year: { type: "integer" }, month: { type: "integer" }, day: { type: "integer" } },
    },
  };
  const paths: Record<string, Record<string, unknown>> = {};
  const files = roots.flatMap(protosIn);
  const plurals: Record<string, string> = {};
  for (const { text } of files)
    for (const match of text.matchAll(/type: "([\w.]+\/\w+)"[^}]*plural: "(\w+)"/g))
      plurals[match[1]!] = match[2]!;
  // The pattern holds braces, so the simple match above may stop early.
  for (const { text } of files)
    for (const match of text.matchAll(/type: "([\w.]+\/\w+)".*?plural: "(\w+)"/g))
      plurals[match[1]!] = match[2]!;

  const messages: Message[] = [];
  const enums: Record<string, Schema> = {};
  for (const file of files) readBlock(file.text, [], messages, enums);

  for (const message of messages) {
    const short = message.name;
    const properties: Record<string, Schema> = {};
    const required: string[] = [];
    for (const field of message.fields) {
      const note = annotations(field.options, plurals);
      let schema: Schema = SCALARS[field.type] ?? refOf(field.type, short, messages, enums);
      if (field.map) schema = { type: "object" };
      else if (field.repeated) schema = { type: "array", items: schema };
      properties[camel(field.name)] = { ...schema, ...note };
      if (note["x-required"]) required.push(camel(field.name));
    }
    const resource = /resource\) = \{(.*)\};/.exec(message.options);
    const typed =
      /google\.api\.resource\) = \{type: "([\w.]+)\/(\w+)".*?plural: "(\w+)" singular: "(\w+)"/.exec(
        message.options,
      );
    const body: Schema = { type: "object", properties, required };
    if (resource && typed) {
      const rule = message.options.slice(message.options.indexOf("v1.resource) ="));
      const collection = typed[3]!;
      const without = new Set([...rule.matchAll(/without: (\w+)/g)].map((match) => match[1]));
      const text = (name: string) => new RegExp(`${name}: "([^"]*)"`).exec(rule)?.[1];
      const area = typed[1]!.split(".")[1]!;
      Object.assign(properties, COMMON_FIELDS);
      body["x-resource"] = {
        collection,
        area,
        label: label(rule),
        titleField: camel(text("title_field") ?? "display_name"),
        menu: text("menu") ?? "",
        permissions: Object.fromEntries(
          ["read", "create", "update", "delete"].map((verb) => [verb, `${area}.${collection}.${verb}`]),
        ),
        verbs: [],
      };
      const one = `/v1/${collection}/{${camel(typed[4]!)}}`;
      paths[`/v1/${collection}`] = { get: {}, ...(without.has("CREATE") ? {} : { post: {} }) };
      paths[one] = {
        get: {},
        ...(without.has("UPDATE") ? {} : { patch: {} }),
        ...(without.has("DELETE") ? {} : { delete: {} }),
      };
      if (!without.has("BATCH_UPDATE")) paths[`/v1/${collection}:batchUpdate`] = { post: {} };
      paths[`/v1/${collection}:aggregate`] = { get: {} };
    }
    schemas[short] = body;
  }
  for (const { text } of files)
    for (const match of text.matchAll(/rpc (\w+)\(([\w.]+)\) returns \(([\w.]+)\) \{([\s\S]*?)\n  \}/g)) {
      const [, rpc, request, reply, options] = match as unknown as [string, string, string, string, string];
      const http = /post: "\/v1\/(?:\{name=)?(\w+)(\/\*\})?:(\w+)"/.exec(options);
      const verb = /options\.v1\.verb\) = (\{.*?\})/.exec(options);
      const owner = schemas[reply.split(".").at(-1)!]?.["x-resource"] as
        { verbs: unknown[]; collection: string } | undefined;
      if (!http || !verb || !owner) continue;
      owner.verbs.push({
        name: http[3],
        rpc,
        label: label(`label: ${verb[1]!}`),
        permission: /permission\) = "([^"]+)"/.exec(options)?.[1],
        method: "post",
        path: `/v1/${http[1]!}${http[2] ? "/{id}" : ""}:${http[3]!}`,
        request: `#/components/schemas/${request.split(".").at(-1)!}`,
      });
    }
  return {
    openapi: "3.1.0",
    info: { title: "Fixture", version: "0" },
    paths,
    components: { schemas: { ...schemas, ...enums } },
  };
}

const text = (zh: string, en: string) => ({ "x-label": { zh, en } });
const COMMON_FIELDS: Record<string, Schema> = {
  number: { type: "string", readOnly: true, ...text("编号", "Number") },
  owner: { type: "string", "x-reference": ["employees"], ...text("负责人", "Owner") },
  department: { type: "string", "x-reference": ["departments"], ...text("部门", "Department") },
  collaborators: {
    type: "array",
    items: { type: "string" },
    "x-reference": ["employees"],
    ...text("协作人", "Collaborators"),
  },
  pendingApproval: { type: "string", readOnly: true, ...text("审批中", "Pending approval") },
  createTime: { type: "string", format: "date-time", readOnly: true, ...text("创建时间", "Created") },
  updateTime: { type: "string", format: "date-time", readOnly: true, ...text("更新时间", "Updated") },
  creator: { type: "string", readOnly: true, "x-reference": ["employees"], ...text("创建人", "Creator") },
  custom: { type: "object", ...text("自定义字段", "Custom fields") },
  etag: { type: "string", readOnly: true },
};

function protosIn(root: string): { text: string }[] {
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".proto") && !path.endsWith("events.proto"))
    .map((path) => ({
      text: readFileSync(join(root, path), "utf8")
        .replace(/^\s*\/\/.*$/gm, "")
        .replace(/\n\s*(?=\[|\()/g, " "),
    }));
}

function readBlock(
  source: string,
  outer: string[],
  messages: Message[],
  enums: Record<string, Schema>,
): string {
  let rest = source;
  let own = "";
  const opening = /\b(message|enum) (\w+) \{/;
  for (let match = opening.exec(rest); match; match = opening.exec(rest)) {
    own += rest.slice(0, match.index);
    const start = match.index + match[0].length;
    let depth = 1;
    let end = start;
    for (; depth > 0 && end < rest.length; end++) depth += rest[end] === "{" ? 1 : rest[end] === "}" ? -1 : 0;
    const inner = rest.slice(start, end - 1);
    const name = [...outer, match[2]!].join(".");
    if (match[1] === "enum") enums[name] = readEnum(inner);
    else {
      const body = readBlock(inner, [...outer, match[2]!], messages, enums);
      messages.push({
        name,
        options: [...body.matchAll(/option .*?;\n/g)].map((line) => line[0]).join("\n"),
        fields: [...body.matchAll(/^\s*(repeated |optional )?(map<[^>]+>|[\w.]+) (\w+) = \d+\s*(\[.*\])?;/gm)]
          .filter((field) => field[2] !== "option")
          .map((field) => ({
            type: field[2]!,
            repeated: field[1] === "repeated ",
            map: field[2]!.startsWith("map<"),
            name: field[3]!,
            options: field[4] ?? "",
          })),
      });
    }
    rest = rest.slice(end);
  }
  return own + rest;
}

function readEnum(body: string): Schema {
  const values = [...body.matchAll(/(\w+) = \d+\s*(\[.*?\])?;/g)];
  return {
    type: "string",
    enum: values.map((value) => value[1]),
    "x-enum-labels": Object.fromEntries(
      values
        .filter((value) => value[2])
        .map((value) => [value[1], label(`label: ${/\{.*\}/.exec(value[2]!)![0]}`)]),
    ),
  };
}

function refOf(type: string, inside: string, messages: Message[], enums: Record<string, Schema>): Schema {
  const known = new Set([...messages.map((message) => message.name), ...Object.keys(enums)]);
  const short = type.replace(/^crm\.\w+\.v1\./, "");
  const scopes = inside.split(".");
  for (let depth = scopes.length; depth >= 0; depth--) {
    const candidate = [...scopes.slice(0, depth), short].join(".");
    if (known.has(candidate)) return { $ref: `#/components/schemas/${candidate}` };
  }
  return { type: "object" };
}

function annotations(options: string, plurals: Record<string, string>): Schema {
  const flag = (name: string) => new RegExp(`\\b${name}: true`).test(options);
  const reference = /resource_reference\)\.type = "([^"]+)"/.exec(options)?.[1];
  const dictionary = /dictionary: "([^"]+)"/.exec(options)?.[1];
  const length = /max_length: (\d+)/.exec(options)?.[1];
  return {
    ...(options.includes("label: {") ? { "x-label": label(options) } : {}),
    ...(options.includes("= REQUIRED") ? { "x-required": true } : {}),
    ...(options.includes("= OUTPUT_ONLY") ? { readOnly: true } : {}),
    ...(options.includes("= IMMUTABLE") ? { "x-immutable": true } : {}),
    ...(flag("searchable") ? { "x-searchable": true } : {}),
    ...(flag("listed") ? { "x-listed": true } : {}),
    ...(flag("quick") ? { "x-quick": true } : {}),
    ...(flag("multiline") ? { "x-multiline": true } : {}),
    ...(reference ? { "x-reference": [plurals[reference] ?? collectionOf(reference)] } : {}),
    ...(dictionary ? { "x-dictionary": dictionary } : {}),
    ...(length ? { maxLength: Number(length) } : {}),
  };
}

const collectionOf = (type: string) => {
  const name = type.split("/")[1]!;
  return `${name.charAt(0).toLowerCase()}${name.slice(1)}s`;
};

function label(options: string) {
  const match = /label: \{zh: "([^"]*)" en: "([^"]*)"\}/.exec(options);
  return { zh: match?.[1] ?? "", en: match?.[2] ?? "" };
}
