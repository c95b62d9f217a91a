import { useInfiniteQuery } from "@tanstack/react-query";
import { DatePicker, Select } from "antd";
import dayjs from "dayjs";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { fieldsNamed } from "@/kit/columns";
import { quote } from "@/kit/filter";
import { Page } from "@/kit/page";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { pagesQuery, useCatalogue, useResource, useSession } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Empty } from "@/kit/states";
import { Chain } from "./chain";
import { EntryDrawer } from "./entry";

const PAGE = 30;
const ASKED = ["who", "what", "did", "origin", "from", "to"];

/** What the address asks for, as a filter of the audit. */
function filterOf(params: URLSearchParams): string {
  const [who, what, did, origin, from, to] = ASKED.map((key) => params.get(key) ?? "");
  return [
    who && `actor = ${quote(who)}`,
    // Names begin with their collection; the first sign behind "/" ends the range.
    what && `resource >= ${quote(`${what}/`)} AND resource < ${quote(`${what}0`)}`,
    did && `action = ${quote(did)}`,
    origin && `origin = ${quote(origin)}`,
    from && `time >= ${quote(dayjs(from).startOf("day").toISOString())}`,
    to && `time < ${quote(dayjs(to).add(1, "day").startOf("day").toISOString())}`,
  ]
    .filter(Boolean)
    .join(" AND ");
}

/** Who did what when, and whether the record of it is whole. */
export function AuditPage() {
  const { t, label, plural } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const resource = useResource("auditEntries");
  const [params, go] = useAddress();
  const value = (key: string) => params.get(key) || undefined;
  const filter = filterOf(params);
  const pages = useInfiniteQuery(
    pagesQuery("auditEntries", { filter, orderBy: "time desc", pageSize: PAGE }),
  );
  const choices = (name: string) =>
    (resource.fields.find((field) => field.name === name)?.choices ?? []).map((choice) => ({
      value: choice.value,
      label: label(choice.label),
    }));
  const clear = () => go(Object.fromEntries(ASKED.map((key) => [key, ""])));
  const pick = (key: string, options: { value: string; label: string }[]) => (
    <Select
      aria-label={t(`audit.by.${key}`)}
      className="audit-pick"
      allowClear
      showSearch={{ optionFilterProp: "label" }}
      placeholder={t(`audit.by.${key}`)}
      value={value(key) ?? null}
      options={options}
      onChange={(next: string | null) => go({ [key]: next ?? "" })}
    />
  );
  return (
    <Page
      title={t("page.audit")}
      actions={
        catalogue.find("auditArchives") &&
        may(session, catalogue.find("auditArchives")?.permissions.read) && (
          <Link className="button" to="/auditArchives">
            {t("audit.archives")}
          </Link>
        )
      }
    >
      {may(session, "workspace.auditEntries.verify") && <Chain />}
      <div className="list-bar">
        <div className="audit-pick">
          <label className="visually-hidden" htmlFor="audit-who">
            {t("audit.by.who")}
          </label>
          <ReferencePicker
            id="audit-who"
            collection="employees"
            value={value("who")}
            hint={t("audit.by.who")}
            onChange={(next) => go({ who: String(next ?? "") })}
          />
        </div>
        {pick(
          "what",
          catalogue.resources.map((one) => ({ value: one.collection, label: plural(one.label) })),
        )}
        {pick("did", choices("action"))}
        {pick("origin", choices("origin"))}
        {(["from", "to"] as const).map((key) => (
          <DatePicker
            key={key}
            aria-label={t(`audit.by.${key}`)}
            placeholder={t(`audit.by.${key}`)}
            value={value(key) ? dayjs(value(key)) : null}
            onChange={(day) => go({ [key]: day?.format("YYYY-MM-DD") ?? "" })}
          />
        ))}
        {filter && (
          <button type="button" className="link" onClick={clear}>
            {t("filter.clear")}
          </button>
        )}
      </div>
      <section className="card card-body">
        <PagedTable
          caption={t("page.audit")}
          pages={pages}
          lines={8}
          stacked
          none={
            <Empty title={t("audit.none")}>
              {filter && (
                <button type="button" className="button" onClick={clear}>
                  {t("filter.clear")}
                </button>
              )}
            </Empty>
          }
          columns={[
            ...fieldsNamed(resource.fields, ["time", "actor", "action", "resource", "origin", "address"]).map(
              (field) => columnOf(field, label),
            ),
            {
              key: "show",
              title: t("audit.difference"),
              hidden: true,
              cell: (entry: RecordJson) => (
                <button
                  type="button"
                  className="link"
                  aria-label={t("audit.show", { seq: String(entry["seq"] ?? "") })}
                  onClick={() => go({ entry: entry.name })}
                >
                  {t("audit.difference")}
                </button>
              ),
            },
          ]}
        />
      </section>
      {value("entry") && <EntryDrawer name={value("entry") ?? ""} onClose={() => go({ entry: "" })} />}
    </Page>
  );
}
