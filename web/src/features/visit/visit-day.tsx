import { PlusOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useSearchParams } from "react-router";
import { update, type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { dated } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { post } from "@/kit/got";
import { Page } from "@/kit/page";
import { firstPageQuery, titleOf, useResource, useSession } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { dateFormat } from "@/kit/formatters";

type Route = Schema<"sales.PlanVisitRouteResponse">;

const DAY_MS = 86_400_000;
const MOST = 50;

const startOf = (offset: number) => {
  const day = new Date();
  day.setHours(0, 0, 0, 0);
  return new Date(day.getTime() + offset * DAY_MS);
};

/** My visits of a day in the order of the route; the way between them is reckoned by the server. */
export function VisitDayPage() {
  const { t, language, noun } = useText();
  const session = useSession();
  const resource = useResource("visits");
  const state = resource.fields.find(({ name }) => name === "state");
  const [params, setParams] = useSearchParams();
  const offset = Number(params.get("day") ?? 0) || 0;
  const [route, setRoute] = useState<{ offset: number; found: Route }>();
  const [busy, setBusy] = useState(false);
  const from = startOf(offset);
  const found = useQuery(
    firstPageQuery("visits", {
      filter: `owner = me AND plannedTime >= "${from.toISOString()}" AND plannedTime < "${startOf(offset + 1).toISOString()}"`,
      orderBy: "plannedTime",
      pageSize: MOST,
    }),
  );
  const place = (visit: RecordJson) => Number(visit["routePosition"] ?? 0) || Infinity;
  const visits = (found.data?.records ?? []).toSorted((a, b) => {
    const [left, right] = [place(a), place(b)];
    return left === right ? 0 : left - right;
  });
  const planned = visits.filter((visit) => visit["state"] === "PLANNED");
  const stops = route?.offset === offset ? (route.found.stops ?? []) : [];

  const plan = async () => {
    setBusy(true);
    try {
      const answer = await post<Route>("/v1/visits:planRoute", { visits: planned.map(({ name }) => name) });
      for (const [index, stop] of (answer.stops ?? []).entries()) {
        const visit = planned.find(({ name }) => name === stop.visit);
        if (visit) await update(visit.name, { routePosition: index + 1 }, visit.etag);
      }
      setRoute({ offset, found: answer });
      tell(t("visit.planned", { kilometres: ((answer.distance ?? 0) / 1000).toFixed(1) }));
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      setBusy(false);
    }
  };

  return (
    <Page
      title={t("page.visitDay")}
      note={<p className="faint">{dateFormat(dated(language), { dateStyle: "full" }).format(from)}</p>}
      actions={
        <>
          <button type="button" className="button" onClick={() => setParams({ day: String(offset - 1) })}>
            {t("visit.before")}
          </button>
          <button type="button" className="button" disabled={offset === 0} onClick={() => setParams({})}>
            {t("visit.today")}
          </button>
          <button type="button" className="button" onClick={() => setParams({ day: String(offset + 1) })}>
            {t("visit.after")}
          </button>
          {may(session, resource.permissions.create) && (
            <button
              type="button"
              className="button button-primary"
              onClick={() => send({ kind: "create", collection: "visits" })}
            >
              <PlusOutlined aria-hidden="true" /> {t("form.newTitle", { what: noun(resource.label) })}
            </button>
          )}
        </>
      }
    >
      {found.isError ? (
        <ErrorNote error={found.error} onRetry={() => void found.refetch()} />
      ) : found.isPending ? (
        <Skeleton lines={6} />
      ) : visits.length === 0 ? (
        <section className="card">
          <Empty title={t("visit.none")} text={t("visit.noneText")} />
        </section>
      ) : (
        <section className="card">
          <div className="card-head">
            <h2>{t("visit.route")}</h2>
            <span className="grow" />
            {planned.length > 1 && (
              <button type="button" className="button" disabled={busy} onClick={() => void plan()}>
                {t("visit.plan")}
              </button>
            )}
          </div>
          <ol className="feed card-body">
            {visits.map((visit, index) => {
              const stop = stops.find((one) => one.visit === visit.name);
              const clash = route?.offset === offset && (route.found.conflicts ?? []).includes(visit.name);
              return (
                <li key={visit.name}>
                  <span className="feed-icon">{index + 1}</span>
                  <div>
                    <p>
                      <Link to={`/${visit.name}`}>{titleOf(visit, resource, language)}</Link>{" "}
                      {state && <FieldValue field={state} value={visit["state"]} />}{" "}
                      {clash && <span className="tag tag-warn">{t("visit.clash")}</span>}
                    </p>
                    <p className="faint">
                      {dateFormat(dated(language), { timeStyle: "short" }).format(
                        new Date(String(visit["plannedTime"])),
                      )}
                      {" · "}
                      <Reference name={String(visit["account"])} />
                      {stop?.distance !== undefined &&
                        ` · ${t("visit.leg", { kilometres: (stop.distance / 1000).toFixed(1) })}`}
                    </p>
                  </div>
                </li>
              );
            })}
          </ol>
        </section>
      )}
    </Page>
  );
}
