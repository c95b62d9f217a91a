import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { formatInstant, formatRelative } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { Figure } from "@/kit/figure";
import { gotQuery, post } from "@/kit/got";
import { Page } from "@/kit/page";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { pagesQuery, recordsOf, useResource, useSession } from "@/kit/queries";
import { Empty, Loaded } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf, VerbBar } from "@/kit/verbs";
import { numberFormat } from "@/kit/formatters";

export type Health = Schema<"workspace.BackupHealth">;

/** The agent says every few seconds how far it is. */
const AGAIN_MS = 10_000;
const TONES = { GREEN: "good", YELLOW: "warn", RED: "bad" } as const;

export const healthQuery = gotQuery<Health>(["list", "backups", "health"], "/v1/backups:health");

/** Backups: how old the proof is, what there is, one click for another one, two people for a restore. */
export function BackupsPage() {
  const { t, label } = useText();
  const session = useSession();
  const resource = useResource("backups");
  const client = useQueryClient();
  const pages = useInfiniteQuery({
    ...pagesQuery("backups", { orderBy: "createTime desc", pageSize: 50 }),
    refetchInterval: AGAIN_MS,
  });
  const [busy, setBusy] = useState(false);
  const start = async () => {
    setBusy(true);
    try {
      await post("/v1/backups:create", { requestId: crypto.randomUUID() });
      tell(t("backups.asked"), "good");
    } catch (error) {
      tell(messageOf(error), "bad");
    }
    setBusy(false);
    await client.invalidateQueries({ queryKey: ["list", "backups"] });
  };
  const proposed = recordsOf(pages).filter((one) => one["proposedBy"]);
  return (
    <Page
      title={t("page.backups")}
      note={<p className="faint">{t("backups.text")}</p>}
      actions={
        <>
          <Link className="button" to="/backups/recovery">
            {t("backups.recovery")}
          </Link>
          {may(session, "workspace.backups.create") && (
            <button
              type="button"
              className="button button-primary"
              disabled={busy}
              onClick={() => void start()}
            >
              {t("backups.now")}
            </button>
          )}
        </>
      }
    >
      <div className="stack">
        <Light />
        {proposed.map((backup) => (
          <p key={backup.name} className="note note-warn" role="status">
            <Reference name={String(backup["proposedBy"])} link={false} />{" "}
            {t(backup["confirmedBy"] ? "backups.confirmed" : "backups.proposed", {
              number: String(backup["number"] ?? ""),
              reason: String(backup["reason"] ?? ""),
            })}
          </p>
        ))}
        <section className="card card-body">
          <PagedTable
            caption={t("page.backups")}
            pages={pages}
            stacked
            none={<Empty title={t("backups.none")} />}
            columns={[
              {
                key: "number",
                title: t("backups.number"),
                row: true,
                cell: (one: RecordJson) => (
                  <Link to={`/${one.name}`}>{String(one["number"] || t("backups.unnumbered"))}</Link>
                ),
              },
              ...fieldsNamed(resource.fields, ["state", "asked"]).map((field) => columnOf(field, label)),
              { key: "size", title: t("backups.size"), number: true, cell: (one) => <Size of={one} /> },
              { key: "age", title: t("backups.age"), cell: (one) => <Ago at={one["finishTime"]} /> },
              { key: "proof", title: t("backups.proof"), cell: (one) => <Ago at={one["verifyTime"]} /> },
              {
                key: "verbs",
                title: t("action.more"),
                hidden: true,
                cell: (one) => (
                  <span className="row">
                    <VerbBar resource={resource} record={one} second />
                  </span>
                ),
              },
            ]}
          />
        </section>
      </div>
    </Page>
  );
}

/** Green, yellow or red, in a colour and in words, and what it goes by. */
function Light() {
  const { t } = useText();
  const query = useQuery({ ...healthQuery, refetchInterval: AGAIN_MS });
  return (
    <section className="card card-body stack" aria-label={t("backups.state")}>
      <Loaded query={query} lines={2}>
        {(health) => {
          const light = (health.light ?? "RED") as keyof typeof TONES;
          return (
            <div className="figures">
              <Figure
                label={t("backups.lastProof")}
                note={
                  <span className={`tag tag-${TONES[light]}`}>
                    {health.proofTime
                      ? t(`backups.light.${light}`, { count: health.days ?? 0 })
                      : t("backups.unproven")}
                  </span>
                }
              >
                <Ago at={health.proofTime} />
              </Figure>
              <Figure label={t("backups.newest")}>
                <Ago at={health.backupTime} />
              </Figure>
              <Figure label={t("backups.archived")}>
                <Ago at={health.archiveTime} />
              </Figure>
              <Figure label={t("backups.agent")}>
                <Ago at={health.agentTime} />
              </Figure>
            </div>
          );
        }}
      </Loaded>
    </section>
  );
}

function Ago({ at }: { at: unknown }) {
  const { t, language } = useText();
  if (typeof at !== "string" || at === "") return <span className="faint">{t("backups.never")}</span>;
  return (
    <time dateTime={at} title={formatInstant(at, language)}>
      {formatRelative(at, language)}
    </time>
  );
}

function Size({ of }: { of: RecordJson }) {
  const { language } = useText();
  const bytes = Number(of["size"] ?? 0);
  if (!bytes) return <>–</>;
  const shown = numberFormat(language, {
    style: "unit",
    unit: "megabyte",
    maximumFractionDigits: 1,
  });
  return <>{shown.format(bytes / 1_000_000)}</>;
}
