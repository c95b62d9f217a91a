import { SearchOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import { leads, may } from "@/api/session";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { dated, formatRelative } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { allOf, encodeFilter } from "@/kit/filter";
import { FunnelBars, useFunnel } from "@/kit/funnel";
import { Page } from "@/kit/page";
import { firstPageQuery, titleOf, useCatalogue, useSession } from "@/kit/queries";
import { Empty } from "@/kit/states";
import { Tile } from "@/kit/tile";
import { NewCustomer } from "./new-customer";

/** My day: what to do next, one action away. */
export function HomePage() {
  const { t, language } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const has = (collection: string) => {
    const resource = catalogue.find(collection);
    return resource?.has.list === true && may(session, resource.permissions.read);
  };
  const hour = new Date().getHours();
  const greeting = hour < 6 ? "night" : hour < 12 ? "morning" : hour < 18 ? "afternoon" : "evening";
  const team = leads(session);
  const own = (rest = "") => allOf(team ? "" : "owner = me", rest);
  const today = new Intl.DateTimeFormat(dated(language), { dateStyle: "full" }).format(new Date());

  return (
    <Page
      title={t(`home.${greeting}`, { name: session.displayName })}
      note={<p className="faint">{today}</p>}
    >
      <div className="home-entry">
        {may(session, catalogue.find("accounts")?.permissions.create) && <NewCustomer />}
        <section className="card home-search">
          <h2>{t("home.find")}</h2>
          <button
            type="button"
            className="top-search home-search-box"
            onClick={() => send({ kind: "search" })}
          >
            <SearchOutlined aria-hidden="true" /> {t("search.hint")}
          </button>
          <p className="faint">{t("home.findText")}</p>
        </section>
      </div>
      <div className="tiles">
        {has("opportunities") && (
          <RecordsTile
            collection="opportunities"
            title={t(team ? "home.teamDeals" : "home.myDeals")}
            filter={own('state = "OPEN"')}
            mine={!team}
            orderBy="expectedCloseDate"
            link={{ field: "state", value: "OPEN" }}
            show={["account", "amount", "expectedCloseDate"]}
          />
        )}
        {has("tickets") && (
          <RecordsTile
            collection="tickets"
            title={t(team ? "home.teamTickets" : "home.myTickets")}
            filter={own('NOT state = "CLOSED"')}
            mine={!team}
            orderBy="createTime desc"
            show={["account", "priority", "state"]}
          />
        )}
        {has("opportunities") && <FunnelTile team={team} />}
        {has("accounts") && (
          <RecordsTile
            collection="accounts"
            title={t("home.recent")}
            filter=""
            orderBy="updateTime desc"
            show={["level", "industry", "updateTime"]}
            mine={false}
          />
        )}
        {has("leads") && (
          <RecordsTile
            collection="leads"
            title={t(team ? "home.teamLeads" : "home.myLeads")}
            filter={own()}
            mine={!team}
            orderBy="createTime desc"
            show={["company", "state", "source"]}
          />
        )}
        {has("tasks") && (
          <RecordsTile
            collection="tasks"
            title={t("home.tasks")}
            filter="owner = me"
            orderBy="dueTime"
            show={["dueTime", "state"]}
          />
        )}
        {has("notifications") && <NotificationsTile />}
      </div>
    </Page>
  );
}

const ROWS = 5;

interface RecordsTileProps {
  collection: string;
  title: string;
  filter: string;
  orderBy: string;
  show: string[];
  link?: { field: string; value: string };
  mine?: boolean;
}

function RecordsTile({ collection, title, filter, orderBy, show, link, mine = true }: RecordsTileProps) {
  const { t, language, noun } = useText();
  const session = useSession();
  const resource = useCatalogue().find(collection);
  const known = (name: string) => resource?.fields.some((field) => field.name === name) === true;
  const order = known(orderBy.split(" ")[0] ?? "") ? orderBy : "createTime desc";
  const page = useQuery(firstPageQuery(collection, { filter, orderBy: order, pageSize: ROWS }));
  const chosen = link
    ? `&filter=${encodeURIComponent(encodeFilter({ groups: [[{ field: link.field, operator: "is", value: link.value }]] }))}`
    : "";
  if (!resource) return null;
  const fields = show.flatMap((name) => resource.fields.find((field) => field.name === name) ?? []);
  return (
    <Tile title={title} all={`/${collection}?${mine ? "mine=1" : ""}${chosen}`} query={page}>
      {({ records }) =>
        records.length === 0 ? (
          <Empty title={t("home.nothing")}>
            {may(session, resource.permissions.create) && resource.has.create && (
              <button type="button" className="button" onClick={() => send({ kind: "create", collection })}>
                {t("form.newTitle", { what: noun(resource.label) })}
              </button>
            )}
          </Empty>
        ) : (
          <ul className="tile-rows">
            {records.map((record) => (
              <li key={record.name}>
                <Link to={`/${record.name}`} className="tile-row">
                  <span className="grow">
                    <strong className="cut">{titleOf(record, resource, language)}</strong>
                    <span className="faint cut">
                      <FirstValue fields={fields} record={record} />
                    </span>
                  </span>
                  <span className="tile-row-end">
                    {fields.slice(1).map((field) => (
                      <span key={field.name}>
                        <FieldValue field={field} value={record[field.name]} links={false} />
                      </span>
                    ))}
                  </span>
                </Link>
              </li>
            ))}
          </ul>
        )
      }
    </Tile>
  );
}

function FirstValue({
  fields,
  record,
}: {
  fields: Parameters<typeof FieldValue>[0]["field"][];
  record: RecordJson;
}) {
  const [field] = fields;
  return field ? <FieldValue field={field} value={record[field.name]} links={false} /> : null;
}

function FunnelTile({ team }: { team: boolean }) {
  const { t } = useText();
  const funnel = useFunnel(team ? "" : "owner = me");
  return (
    <Tile
      title={t(team ? "home.teamFunnel" : "home.funnel")}
      all={team ? "/funnel" : "/funnel?mine=1"}
      query={funnel}
    >
      {(stages) =>
        stages.every((stage) => stage.count === 0) ? (
          <Empty title={t("home.nothing")} />
        ) : (
          <FunnelBars stages={stages} />
        )
      }
    </Tile>
  );
}

function NotificationsTile() {
  const { t, language } = useText();
  const resource = useCatalogue().find("notifications");
  const page = useQuery(firstPageQuery("notifications", { orderBy: "createTime desc", pageSize: ROWS }));
  return (
    <Tile title={t("page.notifications")} all="/notifications" query={page}>
      {({ records }) =>
        records.length === 0 ? (
          <Empty title={t("notifications.none")} />
        ) : (
          <ul className="tile-rows">
            {records.map((record) => (
              <li key={record.name} className="tile-row">
                <span className="grow">
                  <span className="cut-lines">{titleOf(record, resource, language)}</span>
                  <span className="faint">
                    {formatRelative(String(record["createTime"] ?? ""), language)}
                    {Boolean(record["target"]) && (
                      <>
                        {" · "}
                        <Reference name={String(record["target"])} />
                      </>
                    )}
                  </span>
                </span>
              </li>
            ))}
          </ul>
        )
      }
    </Tile>
  );
}
