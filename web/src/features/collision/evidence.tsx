import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import { ApiError } from "@/api/errors";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { FactName, Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { isName } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

type Found = Schema<"customer.CollisionEvidence">;

type Moment = Schema<"customer.CollisionEvidence.Moment">;

const CLOSED = new Set(["NOT_ARBITER", "PERMISSION_DENIED", "NOT_FOUND"]);

/** What each side did, in two columns on one axis of time; only for the one who decides. */
export function Evidence({ record }: { record: RecordJson }) {
  const { t, language } = useText();
  const evidence = useQuery({
    ...gotQuery<Found>(["record", record.name, "evidence"], `/v1/${record.name}:evidence`),
    retry: false,
  });
  if (evidence.isError) {
    const closed = evidence.error instanceof ApiError && CLOSED.has(evidence.error.reason);
    if (!closed) return <ErrorNote error={evidence.error} onRetry={() => void evidence.refetch()} />;
    return (
      <section className="card">
        <Empty title={t("collision.noEvidence")} text={t("collision.noEvidenceText")} />
      </section>
    );
  }
  if (evidence.isPending) return <Skeleton lines={6} />;
  const sides = evidence.data.sides ?? [];
  const moments = sides
    .flatMap((side, index) => (side.moments ?? []).map((moment) => ({ moment, index })))
    .toSorted((a, b) => String(a.moment.time).localeCompare(String(b.moment.time)));
  if (moments.length === 0)
    return (
      <section className="card">
        <Empty title={t("collision.noMoments")} text={t("collision.noMomentsText")} />
      </section>
    );
  return (
    <section className="card card-body">
      <p className="faint">
        {evidence.data.frozenTime &&
          t("collision.frozen", { time: formatInstant(evidence.data.frozenTime, language) })}
      </p>
      <PlainTable
        caption={t("collision.evidence")}
        className="evidence"
        rows={moments}
        keyOf={(_, row) => row}
        columns={[
          {
            key: "when",
            title: t("collision.when"),
            row: true,
            cell: ({ moment }) => <time dateTime={moment.time}>{formatInstant(moment.time, language)}</time>,
          },
          ...sides.map((side, column) => ({
            key: side.party ?? "",
            title: side.displayName ?? "",
            note: (
              <p className="faint">
                {side.owner && <Reference name={side.owner} link={false} />}
                {side.department && (
                  <>
                    {" · "}
                    <Reference name={side.department} link={false} />
                  </>
                )}
              </p>
            ),
            cell: ({ moment, index }: (typeof moments)[number]) =>
              column === index && <MomentText moment={moment} />,
          })),
        ]}
      />
    </section>
  );
}

function MomentText({ moment }: { moment: Moment }) {
  const { t, language } = useText();
  return (
    <>
      <strong>
        {t(`collision.moment.${moment.kind ?? ""}`, { defaultValue: "" }) || (
          <FactName name={moment.kind ?? ""} />
        )}
      </strong>{" "}
      {isName(moment.text) ? (
        <Reference name={moment.text} />
      ) : moment.ref ? (
        <Link to={`/${moment.ref}`}>{moment.text}</Link>
      ) : (
        moment.text
      )}
      {moment.backDated && (
        <>
          {" "}
          <span className="tag tag-warn">
            {t("collision.backDated", { time: formatInstant(moment.entryTime, language) })}
          </span>
        </>
      )}
    </>
  );
}
