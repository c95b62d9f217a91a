import type { ReactNode } from "react";
import { useText } from "@/i18n";
import { Figure } from "@/kit/figure";
import { PlainTable } from "@/kit/plain-table";
import { ReferencePicker } from "@/kit/reference-picker";
import { NAMED, type Deal, type Named, type Names } from "./deal-rows";

export interface Outcome {
  /** Nothing is written yet. */
  dry: boolean;
  total: number;
  created: number;
  known: number;
  held: number;
  refused: Deal[];
}

interface Props {
  outcome: Outcome;
  names: Names;
  busy: boolean;
  onName: (kind: Named, text: string, name: string | undefined) => void;
  children: ReactNode;
}

const SHOWN = 50;
const COLLECTION = { account: "accounts", product: "products" } as const;

/** What became of the rows, or would; what is unknown here can be told, each text once for all its rows. */
export function DealOutcome({ outcome, names, busy, onName, children }: Props) {
  const { t, language } = useText();
  const count = (value: number) => value.toLocaleString(language);
  const groups = grouped(outcome.refused);
  return (
    <section className="card card-body" aria-live="polite">
      <h2>{t(`import.state.${outcome.dry ? "checked" : "done"}`)}</h2>
      <div className="figures">
        <Figure label={t("import.count.total")}>{count(outcome.total)}</Figure>
        <Figure label={t(`deals.${outcome.dry ? "new" : "created"}`)}>{count(outcome.created)}</Figure>
        <Figure label={t("deals.known")}>{count(outcome.known)}</Figure>
        {outcome.held > 0 && <Figure label={t("deals.held")}>{count(outcome.held)}</Figure>}
        <Figure label={t("deals.refused")}>{count(outcome.refused.length)}</Figure>
      </div>
      {groups.length > 0 && (
        <>
          <h3>{t("deals.why")}</h3>
          <PlainTable
            caption={t("deals.why")}
            className="mapping"
            rows={groups.slice(0, SHOWN)}
            keyOf={({ reason, text }) => `${reason} ${text}`}
            columns={[
              {
                key: "reason",
                title: t("import.reason"),
                row: true,
                cell: ({ reason, text }) => (
                  <>
                    {t(`deals.reason.${reason}`)}
                    {text && <strong> “{text}”</strong>}
                  </>
                ),
              },
              { key: "rows", title: t("deals.count"), number: true, cell: ({ rows }) => count(rows) },
              {
                key: "name",
                title: t("deals.here"),
                cell: ({ reason, text }) => {
                  const kind = NAMED[reason];
                  return kind ? (
                    <>
                      <label className="visually-hidden" htmlFor={`deals-${reason}-${text}`}>
                        {t("deals.hereOf", { text: text || t(`deals.reason.${reason}`) })}
                      </label>
                      <ReferencePicker
                        id={`deals-${reason}-${text}`}
                        collection={COLLECTION[kind]}
                        value={names[kind][text]}
                        disabled={busy}
                        onChange={(name) => onName(kind, text, typeof name === "string" ? name : undefined)}
                      />
                    </>
                  ) : (
                    <span className="faint">{t("deals.inFile")}</span>
                  );
                },
              },
            ]}
          />
          {groups.length > SHOWN && (
            <p className="faint">{t("deals.more", { count: groups.length - SHOWN })}</p>
          )}
          <details>
            <summary>{t("import.errors")}</summary>
            <PlainTable
              caption={t("import.errors")}
              rows={outcome.refused.slice(0, SHOWN)}
              keyOf={({ line }) => line}
              columns={[
                { key: "line", title: t("import.line"), number: true, cell: ({ line }) => line },
                { key: "id", title: t("deals.key"), cell: ({ row }) => String(row["externalId"] ?? "") },
                {
                  key: "reason",
                  title: t("import.reason"),
                  cell: ({ problems }) =>
                    problems.map(({ reason, text }) => (
                      <p key={reason}>
                        {t(`deals.reason.${reason}`)}
                        {text && ` “${text}”`}
                      </p>
                    )),
                },
              ]}
            />
            {outcome.refused.length > SHOWN && (
              <p className="faint">{t("deals.more", { count: outcome.refused.length - SHOWN })}</p>
            )}
          </details>
        </>
      )}
      <div className="row">{children}</div>
    </section>
  );
}

/** Each reason with each text once, the most frequent first. */
function grouped(refused: Deal[]) {
  const found = new Map<string, { reason: string; text: string; rows: number }>();
  for (const { reason, text } of refused.flatMap(({ problems }) => problems)) {
    const key = `${reason} ${text}`;
    const group = found.get(key) ?? { reason, text, rows: 0 };
    group.rows++;
    found.set(key, group);
  }
  return [...found.values()].sort((a, b) => b.rows - a.rows);
}
