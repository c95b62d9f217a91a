import { PlusOutlined, SearchOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import { isOutside, leads, may } from "@/api/session";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { dated, formatRelative } from "@/kit/dates";
import { fieldsNamed } from "@/kit/columns";
import { FieldValue, Reference, Title } from "@/kit/field-value";
import { allOf, encodeFilter, parseFilter } from "@/kit/filter";
import { FunnelBars, useFunnel } from "@/kit/funnel";
import { Page } from "@/kit/page";
import { firstPageQuery, titleOf, useCatalogue, useSession } from "@/kit/queries";
import { Empty } from "@/kit/states";
import { Tile } from "@/kit/tile";
import { homeOf, TILES, type TileKey, type TileSpec } from "@/homes";
import { NewCustomer } from "./new-customer";
import { dateFormat } from "@/kit/formatters";

/** My day: what to do next by role, one action away. */
export function HomePage() {
  const { t, language, noun } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const home = homeOf(session.roles);
  // People outside see what their company has: nothing of it is one of them alone.
  const team = leads(session) || isOutside(session);
  const hour = new Date().getHours();
  const greeting = hour < 6 ? "night" : hour < 12 ? "morning" : hour < 18 ? "afternoon" : "evening";
  const today = dateFormat(dated(language), { dateStyle: "full" }).format(new Date());
  const readable = (collection: string) => {
    const resource = catalogue.find(collection);
    return resource?.has.list === true && may(session, resource.permissions.read);
  };
  const creates = home.first && "create" in home.first ? catalogue.find(home.first.create) : undefined;
  const opens = home.first && "open" in home.first ? home.first.open : undefined;

  return (
    <Page
      title={t(`home.${greeting}`, { name: session.displayName })}
      note={<p className="faint">{today}</p>}
      actions={
        creates && may(session, creates.permissions.create) ? (
          <button
            type="button"
            className={`button ${home.newCustomer ? "" : "button-primary"}`}
            onClick={() => send({ kind: "create", collection: creates.collection })}
          >
            <PlusOutlined aria-hidden="true" /> {t("form.newTitle", { what: noun(creates.label) })}
          </button>
        ) : (
          opens && (
            <Link className="button button-primary" to={addressOf(opens, team)}>
              {t(`first.${opens}`)}
            </Link>
          )
        )
      }
    >
      {home.newCustomer && may(session, catalogue.find("accounts")?.permissions.create) && (
        <div className="home-entry">
          <NewCustomer />
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
      )}
      <div className="tiles">
        {home.tiles.map((key) => {
          if (key === "funnel") return readable("opportunities") && <FunnelTile key={key} team={team} />;
          if (key === "notices") return readable("notifications") && <NotificationsTile key={key} />;
          return readable(TILES[key].collection) && <RecordsTile key={key} tile={key} team={team} />;
        })}
      </div>
    </Page>
  );
}

const specOf = (key: TileKey): TileSpec | undefined =>
  key === "funnel" || key === "notices" ? undefined : TILES[key];

const filterOf = (tile: TileSpec, team: boolean) =>
  allOf(tile.own && !team ? `${tile.own} = me` : "", tile.filter);

/** The list that a tile shows the head of. */
function addressOf(key: TileKey, team: boolean): string {
  const tile = specOf(key);
  if (!tile) return "/";
  if (tile.collection === "approvals") return "/approvals";
  const query = new URLSearchParams({ order: tile.orderBy });
  const filter = filterOf(tile, team);
  const built = parseFilter(filter);
  if (built && built.groups.length > 0) query.set("filter", encodeFilter(built));
  else if (filter) query.set("where", filter);
  return `/${tile.collection}?${query.toString()}`;
}

const ROWS = 5;

function RecordsTile({ tile: key, team }: { tile: Exclude<TileKey, "funnel" | "notices">; team: boolean }) {
  const { t, noun } = useText();
  const session = useSession();
  const tile: TileSpec = TILES[key];
  const { collection } = tile;
  const resource = useCatalogue().find(collection);
  const page = useQuery(
    firstPageQuery(collection, { filter: filterOf(tile, team), orderBy: tile.orderBy, pageSize: ROWS }),
  );
  if (!resource) return null;
  const fields = fieldsNamed(resource.fields, tile.show);
  return (
    <Tile title={t(`tile.${key}`)} all={addressOf(key, team)} query={page}>
      {({ records }) =>
        records.length === 0 ? (
          <Empty title={t("home.nothing")}>
            {tile.create && may(session, resource.permissions.create) && (
              <button type="button" className="button" onClick={() => send({ kind: "create", collection })}>
                {t("form.newTitle", { what: noun(resource.label) })}
              </button>
            )}
          </Empty>
        ) : (
          <ul className="tile-rows">
            {records.map((record) => (
              <li key={record.name}>
                <Link to={collection === "approvals" ? "/approvals" : `/${record.name}`} className="tile-row">
                  <span className="grow">
                    <strong className="cut">
                      <Title record={record} resource={resource} />
                    </strong>
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
