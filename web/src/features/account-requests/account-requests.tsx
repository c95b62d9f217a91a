import { PlusOutlined } from "@ant-design/icons";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { formatRelative } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { Page } from "@/kit/page";
import { PagedTable } from "@/kit/plain-table";
import { pagesQuery, titleOf, useResource, useSession } from "@/kit/queries";
import { Segmented } from "@/kit/segmented";
import { Empty } from "@/kit/states";

const ASKED = ["create", "update", "offboard"]
  .map((action) => `action = "workspace.employees.${action}"`)
  .join(" OR ");
const TABS = {
  open: `state = "PENDING" AND (${ASKED})`,
  decided: `NOT state = "PENDING" AND (${ASKED})`,
};
type Tab = keyof typeof TABS;

interface Decision {
  approver?: string;
  vote?: string;
}

/** Accounts that were asked for, their changes and their ends: since when, and who is waited for. */
export function AccountRequestsPage() {
  const { t, language } = useText();
  const session = useSession();
  const [people, resource] = [useResource("employees"), useResource("approvals")];
  const [params, go] = useAddress();
  const tab: Tab = params.get("tab") === "decided" ? "decided" : "open";
  const pages = useInfiniteQuery(
    pagesQuery("approvals", {
      filter: TABS[tab],
      orderBy: tab === "open" ? "createTime" : "createTime desc",
      pageSize: 50,
    }),
  );
  const state = resource.fields.find(({ name }) => name === "state");
  return (
    <Page
      title={t("page.accountRequests")}
      note={<p className="faint">{t("accountRequests.text")}</p>}
      actions={
        <>
          <Segmented
            label={t("page.accountRequests")}
            value={tab}
            options={(Object.keys(TABS) as Tab[]).map((key) => ({ key, title: t(`accountRequests.${key}`) }))}
            onChange={(key) => go({ tab: key === "open" ? "" : key })}
          />
          {may(session, people.permissions.create) && (
            <Link className="button button-primary" to="/employees/new">
              <PlusOutlined aria-hidden="true" /> {t("accountRequests.new")}
            </Link>
          )}
        </>
      }
    >
      <section className="card card-body">
        <PagedTable
          caption={t("page.accountRequests")}
          pages={pages}
          stacked
          none={<Empty title={t(`accountRequests.none.${tab}`)} />}
          columns={[
            {
              key: "what",
              title: t("accountRequests.what"),
              row: true,
              cell: (record) => <Link to={`/${record.name}`}>{titleOf(record, resource, language)}</Link>,
            },
            {
              key: "requester",
              title: t("accountRequests.requester"),
              cell: (record) => <Reference name={String(record["requester"] ?? "")} />,
            },
            {
              key: "since",
              title: t("accountRequests.since"),
              cell: (record) => (
                <span className="row">
                  {formatRelative(String(record["createTime"]), language)}
                  {tab === "open" && escalated(record) && (
                    <span className="tag tag-warn">{t("accountRequests.escalated")}</span>
                  )}
                </span>
              ),
            },
            tab === "open"
              ? {
                  key: "waits",
                  title: t("accountRequests.waits"),
                  cell: (record) => (
                    <span className="row">
                      {waited(record).map((name) => (
                        <Reference key={name} name={name} />
                      ))}
                    </span>
                  ),
                }
              : {
                  key: "state",
                  title: t("accountRequests.outcome"),
                  cell: (record) => (state ? <FieldValue field={state} value={record["state"]} /> : null),
                },
          ]}
        />
      </section>
    </Page>
  );
}

/** Whether it was not decided within its working day. */
const escalated = (record: RecordJson) =>
  ((record["steps"] ?? []) as { rungs?: number }[]).some(({ rungs }) => (rungs ?? 0) > 0);

/** Who has yet to decide. */
const waited = (record: RecordJson) =>
  ((record["decisions"] ?? []) as Decision[])
    .filter(({ vote }) => !vote || vote === "VOTE_UNSPECIFIED")
    .flatMap(({ approver }) => approver ?? []);
