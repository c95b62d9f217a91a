import { useQueries } from "@tanstack/react-query";
import { Checkbox, Radio } from "antd";
import { useState } from "react";
import type { Field } from "@/api/catalogue";
import { update, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { FieldValue, Reference } from "@/kit/field-value";
import { editableFields } from "@/kit/form-model";
import { isBlank, same } from "@/kit/patch";
import { PlainTable, type Column } from "@/kit/plain-table";
import { recordQuery, titleOf, useResource } from "@/kit/queries";
import { ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import type { Merge } from "./merge";

const KEPT = new Set(["kind", "pool"]);
/** The server calls fields as the proto does. */
const protoName = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** The customers side by side: which one stays, and whose value is kept where they differ. */
export function Choices({ merge }: { merge: Merge }) {
  const { t, label, language } = useText();
  const resource = useResource("accounts");
  const names = [merge.survivor ?? "", ...(merge.losers ?? [])].toSorted();
  const found = useQueries({ queries: names.map((name) => recordQuery(name)) });
  const [survivor, setSurvivor] = useState(merge.survivor ?? "");
  const [chosen, setChosen] = useState<Record<string, string>>(() =>
    Object.fromEntries((merge.choices ?? []).map(({ field, source }) => [field, source])),
  );
  const [pairs, setPairs] = useState(merge.contactPairs ?? []);
  const [busy, setBusy] = useState(false);

  const failed = found.find(({ isError }) => isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  const accounts = found.flatMap(({ data }) => data ?? []);
  if (accounts.length < names.length) return <Skeleton lines={8} />;

  const ordered = accounts.toSorted((a, b) => Number(b.name === survivor) - Number(a.name === survivor));
  const fields = [
    ...editableFields(resource, false),
    ...resource.fields.filter(({ name }) => name === "owner"),
  ].filter(
    (field) =>
      !field.many &&
      !KEPT.has(field.name) &&
      !["object", "free"].includes(field.kind) &&
      !field.name.startsWith("custom.") &&
      accounts.some((account) => !same(account[field.name], accounts[0]?.[field.name])),
  );
  // Where nobody chose, the survivor's value stays, or the first that there is.
  const sourceOf = (field: Field) =>
    chosen[protoName(field.name)] ?? ordered.find((account) => !isBlank(account[field.name]))?.name;

  const save = async () => {
    setBusy(true);
    try {
      const body = {
        survivor,
        losers: names.filter((name) => name !== survivor),
        choices: Object.entries(chosen).map(([field, source]) => ({ field, source })),
        contactPairs: pairs,
      };
      await update(merge.name, body, merge.etag);
      tell(t("merge.saved"));
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      setBusy(false);
    }
  };

  const columns: Column<Field>[] = [
    { key: "field", title: t("merge.field"), row: true, cell: (field) => label(field.label) },
    ...accounts.map((account: RecordJson) => {
      const title = titleOf(account, resource, language);
      return {
        key: account.name,
        title,
        note: (
          <div>
            <Radio checked={survivor === account.name} onChange={() => setSurvivor(account.name)}>
              {t("merge.stays")}
              <span className="visually-hidden"> {title}</span>
            </Radio>
          </div>
        ),
        cell: (field: Field) => (
          <Radio
            aria-label={t("merge.take", { field: label(field.label), title })}
            checked={sourceOf(field) === account.name}
            onChange={() => setChosen({ ...chosen, [protoName(field.name)]: account.name })}
          >
            <FieldValue field={field} value={account[field.name]} links={false} />
          </Radio>
        ),
      };
    }),
  ];
  return (
    <section className="card card-body stack">
      <PlainTable caption={t("merge.choices")} columns={columns} rows={fields} keyOf={({ name }) => name} />
      <p className="faint">{t(fields.length === 0 ? "merge.same" : "merge.lists")}</p>
      {(merge.proposedPairs ?? []).length > 0 && (
        <fieldset className="stack-small">
          <legend>{t("merge.people")}</legend>
          {(merge.proposedPairs ?? []).map((pair) => (
            <Checkbox
              key={pair.loser}
              checked={pairs.some(({ loser }) => loser === pair.loser)}
              onChange={({ target }) =>
                setPairs([
                  ...pairs.filter(({ loser }) => loser !== pair.loser),
                  ...(target.checked ? [pair] : []),
                ])
              }
            >
              <Reference name={pair.loser ?? ""} link={false} /> →{" "}
              <Reference name={pair.survivor ?? ""} link={false} />
            </Checkbox>
          ))}
        </fieldset>
      )}
      <div className="row">
        <button type="button" className="button" disabled={busy} onClick={() => void save()}>
          {t("merge.save")}
        </button>
      </div>
    </section>
  );
}
