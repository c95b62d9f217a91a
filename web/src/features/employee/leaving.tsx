import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { encodeFilter } from "@/kit/filter";
import { gotQuery } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { useCatalogue, useSession } from "@/kit/queries";
import { Empty, Loaded } from "@/kit/states";

type Left = Schema<"workspace.CountEmployeeBelongingsResponse">;

const AGAIN_MS = 2_000;
/** What the person does not own, but is waited or counted for: a list by owner would show something else. */
const NOT_BY_OWNER = ["approvals", "calendarEvents"];

/** What is left to hand over; of who has left it is counted again until nothing is. */
function useLeft({ name, state }: RecordJson, enabled = true) {
  return useQuery({
    ...gotQuery<Left>(["record", name, "belongings"], `/v1/${name}:belongings`),
    enabled,
    refetchInterval: ({ state: { data } }) => (state === "OFFBOARDED" && data?.total ? AGAIN_MS : false),
  });
}

const listOf = (collection: string, field: string, name: string) =>
  `/${collection}?filter=${encodeURIComponent(encodeFilter({ groups: [[{ field, operator: "is", value: name }]] }))}`;

/** Says of somebody frozen or gone why and since when, who takes over, and how much is left to hand over. */
export function LeavingNote({ person }: { person: RecordJson }) {
  return person["state"] === "FROZEN" || person["state"] === "OFFBOARDED" ? <Note person={person} /> : null;
}

function Note({ person }: { person: RecordJson }) {
  const { t, language } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const counts = may(session, "workspace.employees.offboard");
  const left = useLeft(person, counts);
  const gone = person["state"] === "OFFBOARDED";
  const transfers = catalogue.find("transfers");
  const total = left.data?.total ?? 0;
  return (
    <div className="note note-info leaving-note">
      <strong>
        {gone
          ? t("leaving.gone", { time: formatInstant(String(person["leaveTime"]), language) })
          : t("leaving.frozen")}
      </strong>
      {!gone && Boolean(person["stateReason"]) && <span>{String(person["stateReason"])}</span>}
      <span className="row">
        {gone && Boolean(person["successor"]) && (
          <>
            <span>{t("leaving.successor")}</span>
            <Reference name={String(person["successor"])} />
          </>
        )}
        {counts && left.data && (
          <Link to={`/${person.name}?tab=belongings`}>
            {total > 0 ? t("leaving.left", { count: total }) : t("belongings.none")}
          </Link>
        )}
        {transfers && may(session, transfers.permissions.read) && (
          <Link to={listOf("transfers", "from", person.name)}>{t("leaving.handover")}</Link>
        )}
      </span>
    </div>
  );
}

/** What the person owns, by collection: what is left to hand over. */
export function Belongings({ person }: { person: RecordJson }) {
  const { t, plural } = useText();
  const catalogue = useCatalogue();
  const left = useLeft(person);
  return (
    <section className="card card-body stack">
      <Loaded query={left}>
        {(answer: Left) =>
          (answer.counts ?? []).length === 0 ? (
            <Empty title={t("belongings.none")} />
          ) : (
            <>
              <p className="faint" role="status">
                {t("belongings.total", { count: answer.total ?? 0 })}
              </p>
              <PlainTable
                caption={t("belongings.title")}
                rows={answer.counts ?? []}
                keyOf={({ collection }) => collection ?? ""}
                columns={[
                  {
                    key: "what",
                    title: t("belongings.what"),
                    row: true,
                    cell: ({ collection = "" }) => {
                      const resource = catalogue.find(collection);
                      if (!resource) return collection;
                      if (NOT_BY_OWNER.includes(collection)) return plural(resource.label);
                      return (
                        <Link to={listOf(collection, "owner", person.name)}>{plural(resource.label)}</Link>
                      );
                    },
                  },
                  { key: "count", title: t("belongings.count"), number: true, cell: ({ count }) => count },
                ]}
              />
            </>
          )
        }
      </Loaded>
    </section>
  );
}
