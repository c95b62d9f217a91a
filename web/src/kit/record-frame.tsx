import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Modal } from "antd";
import { lazy, Suspense, useState, type ReactNode } from "react";
import { Link, useNavigate } from "react-router";
import type { Resource } from "@/api/catalogue";
import { remove, request, splitName, type RecordJson } from "@/api/client";
import { isOutside, may } from "@/api/session";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { AccessNote } from "./access-note";
import { useAddress } from "./address";
import { formatInstant } from "./dates";
import { FieldValue, Reference } from "./field-value";
import { post } from "./got";
import { useShortcuts } from "./keyboard";
import { save, type Paper } from "./paper";
import { Page } from "./page";
import { recordQuery, titleOf, useCatalogue, useSession } from "./queries";
import { RecordFields } from "./record-fields";
import { StatePath } from "./state-path";
import { ErrorNote, Refused, Skeleton } from "./states";
import { Tabs, type TabSpec } from "./tabs";
import { tell } from "./toasts";
import { messageOf, VerbBar } from "./verbs";

const Comments = lazy(async () => ({ default: (await import("./comments")).Comments }));
const Attachments = lazy(async () => ({ default: (await import("./attachments")).Attachments }));

/** What is a file itself, or shows its files in its own way. */
const UNFILED = new Set(["files", "folders", "fileShares", "exports", "mailMessages", "auditEntries"]);

interface Props {
  resource: Resource;
  name: string;
  tabs: (record: RecordJson) => TabSpec[];
  aside?: (record: RecordJson) => ReactNode;
  banner?: (record: RecordJson) => ReactNode;
  /** Fields that a tab shows in its own way. */
  hide?: string[];
  /** What stands in the tab of comments in place of the usual. */
  comments?: (record: RecordJson) => ReactNode;
}

/** The page of one record: head with verbs, fields at the left, what belongs to it in tabs. */
export function RecordFrame({ resource, name, tabs, aside, banner, hide = [], comments }: Props) {
  const { t, language, plural, noun } = useText();
  const navigate = useNavigate();
  const catalogue = useCatalogue();
  const session = useSession();
  const record = useQuery(recordQuery(name));
  const [params, address] = useAddress();
  const [deleting, setDeleting] = useState(false);
  const mayUpdate = resource.has.update && may(session, resource.permissions.update);
  const edit = () => void navigate(`/${name}/edit`);
  useShortcuts({ e: () => mayUpdate && edit() });

  const spoken = catalogue.find("comments");
  const files = catalogue.find("files");
  /** Before the history, which comes last and is for people of the company. */
  const withCommon = (own: TabSpec[]): TabSpec[] => {
    const common: TabSpec[] = [];
    if (spoken && may(session, spoken.permissions.read) && resource.collection !== "comments")
      common.push({
        key: "comments",
        label: t("comments.title"),
        content: (
          <Suspense fallback={<Skeleton />}>
            {record.data && (comments?.(record.data) ?? <Comments name={name} />)}
          </Suspense>
        ),
      });
    if (files && may(session, files.permissions.read) && !UNFILED.has(resource.collection))
      common.push({
        key: "files",
        label: plural(files.label),
        content: (
          <Suspense fallback={<Skeleton />}>
            <Attachments name={name} />
          </Suspense>
        ),
      });
    const history = own.findIndex(({ key }) => key === "history");
    const placed = own.toSpliced(history < 0 ? own.length : history, 0, ...common);
    return isOutside(session) ? placed.filter(({ key }) => key !== "history") : placed;
  };
  const crumbs = [{ label: plural(resource.label), path: `/${resource.collection}` }];
  if (record.isError)
    return (
      <Page title={t("state.failedTitle")} crumbs={crumbs}>
        <ErrorNote error={record.error} onRetry={() => void record.refetch()} />
      </Page>
    );
  if (record.isPending)
    return (
      <Page title={t("state.loading")} crumbs={crumbs}>
        <Skeleton lines={8} />
      </Page>
    );

  const data = record.data;
  const title = titleOf(data, resource, language);
  const state = resource.fields.find((field) => field.name === "state");
  const shown = withCommon(tabs(data));
  const active = shown.find((tab) => tab.key === params.get("tab")) ?? shown[0];
  const outside = screenOf(resource.collection).publicPage;
  const makes = (screenOf(resource.collection).makes ?? []).flatMap(({ collection, states, from }) => {
    const other = catalogue.find(collection);
    if (!other?.has.create || !may(session, other.permissions.create)) return [];
    if (!states.includes(String(data["state"]))) return [];
    return [
      {
        key: `make-${collection}`,
        label: t("form.newTitle", { what: noun(other.label) }),
        run: () => void navigate(`/${collection}/new`, { state: from(data) }),
      },
    ];
  });
  const extra = [
    ...makes,
    ...(screenOf(resource.collection).papers ?? []).map(({ key, body }) => ({
      key,
      label: t(`paper.${key}`),
      run: () =>
        void post<Paper>(`/v1/${name}:render`, body).then(save, (error: unknown) =>
          tell(messageOf(error), "bad"),
        ),
    })),
    { key: "print", label: t("action.print"), run: () => void printRecord(name) },
    {
      key: "link",
      label: t("action.copyLink"),
      run: () => void navigator.clipboard.writeText(location.href).then(() => tell(t("action.copied"))),
    },
    ...(resource.has.delete && may(session, resource.permissions.delete)
      ? [{ key: "delete", label: t("action.delete"), danger: true, run: () => setDeleting(true) }]
      : []),
  ];

  return (
    <Page
      title={title}
      crumbs={crumbs}
      tags={state && data["state"] ? <FieldValue field={state} value={data["state"]} /> : null}
      note={
        <p className="faint record-meta">
          {Boolean(data["number"]) && <code>{String(data["number"])}</code>}
          {Boolean(data["owner"]) && !isOutside(session) && (
            <span>
              {t("record.owner")} <Reference name={String(data["owner"])} />
            </span>
          )}
          {Boolean(data["department"]) && !isOutside(session) && (
            <Reference name={String(data["department"])} />
          )}
          {Boolean(data["updateTime"]) && (
            <span>{t("record.updated", { time: formatInstant(String(data["updateTime"]), language) })}</span>
          )}
        </p>
      }
      actions={
        <>
          <VerbBar resource={resource} record={data} extra={extra}>
            {outside?.states.includes(String(data["state"])) && (
              <a className="button" href={outside.path(splitName(name).id)} target="_blank" rel="noopener">
                {t(outside.label)}
              </a>
            )}
            {mayUpdate && (
              <Link className="button" to={`/${name}/edit`}>
                {t("action.edit")}
              </Link>
            )}
          </VerbBar>
        </>
      }
    >
      {Boolean(data["pendingApproval"]) && (
        <div className="banner" role="status">
          {t("record.pendingApproval")}
        </div>
      )}
      <StatePath resource={resource} record={data} />
      {banner?.(data)}
      <div className="record">
        <aside className="record-side" aria-label={t("record.fields")}>
          <section className="card">
            <div className="card-head">
              <h2>{t("record.fields")}</h2>
            </div>
            <div className="card-body">
              <RecordFields resource={resource} record={data} hide={hide} />
            </div>
          </section>
          {aside?.(data)}
          {!isOutside(session) && (
            <p className="record-why">
              <AccessNote name={name} />
            </p>
          )}
        </aside>
        <div className="record-main">
          <Tabs
            tabs={shown}
            active={active?.key ?? ""}
            label={t("record.tabs", { title })}
            usedAs={resource.collection}
            onChange={(tab) => address({ tab })}
          />
        </div>
      </div>
      {deleting && (
        <DeleteDialog resource={resource} record={data} title={title} onClose={() => setDeleting(false)} />
      )}
    </Page>
  );
}

function DeleteDialog({
  resource,
  record,
  title,
  onClose,
}: {
  resource: Resource;
  record: RecordJson;
  title: string;
  onClose: () => void;
}) {
  const { t } = useText();
  const client = useQueryClient();
  const navigate = useNavigate();
  const [failure, setFailure] = useState("");
  const run = async () => {
    try {
      await remove(record.name, record.etag);
    } catch (error) {
      return setFailure(messageOf(error));
    }
    client.removeQueries({ queryKey: ["record", record.name] });
    void client.invalidateQueries({ queryKey: ["list", resource.collection] });
    tell(t("list.deleted", { count: 1 }));
    void navigate(`/${resource.collection}`);
  };
  return (
    <Modal
      open
      title={t("action.delete")}
      okText={t("action.delete")}
      cancelText={t("action.cancel")}
      okButtonProps={{ danger: true }}
      onOk={() => void run()}
      onCancel={onClose}
    >
      <p>{t("record.deleteText", { title })}</p>
      <Refused>{failure}</Refused>
    </Modal>
  );
}

/** Who prints what stands in the audit; an audit that is away keeps nobody from printing. */
export async function printRecord(record: string) {
  const told = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ record }),
  };
  await request("/v1/auditEntries:print", told).catch(() => undefined);
  window.print();
}
