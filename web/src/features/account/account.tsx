import { MailOutlined, PhoneOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { DialButton } from "@/kit/dial-button";
import { Figure } from "@/kit/figure";
import { History } from "@/kit/history";
import { formatShort } from "@/kit/money";
import { aggregateQuery, useCatalogue, useResource, useSession } from "@/kit/queries";
import { quote } from "@/kit/filter";
import { RecordFrame } from "@/kit/record-frame";
import type { TabSpec } from "@/kit/tabs";
import { RelatedList } from "@/kit/related-list";
import { UpsellHints } from "@/kit/upsell-hints";
import { Credit } from "./credit";
import { Grade } from "./grade";
import { Hierarchy } from "./hierarchy";
import { Letters } from "./letters";
import { LogInteraction } from "./log-interaction";
import { Loyalty } from "./loyalty";
import { OrgChart } from "./org-chart";
import { Owners } from "./owners";
import { SeaNote } from "./sea-note";
import { Timeline } from "./timeline";

const BUSINESS = [
  "leads",
  "opportunities",
  "quotes",
  "contracts",
  "orders",
  "deliveries",
  "paymentPlans",
  "invoices",
  "payments",
];
const SERVICE = ["tickets"];

/** Everything about one customer: what happened, who is who, what is sold, owed and asked. */
export function AccountPage({ name }: { name: string }) {
  const { t } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const resource = useResource("accounts");
  const referring = catalogue
    .referring("accounts")
    .filter(
      ({ resource: other, field }) =>
        may(session, other.permissions.read) &&
        (field.name === "account" || other.collection === "accountRelations"),
    );
  const can = (collection: string) => {
    const other = catalogue.find(collection);
    return other !== undefined && may(session, other.permissions.read);
  };
  const lists = (collections: string[], compact = false) => {
    const found = collections.flatMap(
      (collection) => referring.find((other) => other.resource.collection === collection) ?? [],
    );
    return found.length > 0 ? (
      <div className="stack">
        {found.map(({ resource: other, field }) => (
          <RelatedList key={other.collection} resource={other} field={field} name={name} compact={compact} />
        ))}
      </div>
    ) : null;
  };
  const tab = (key: string, content: TabSpec["content"]): TabSpec[] =>
    content ? [{ key, label: t(`account.${key}`), content }] : [];

  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["seaDueTime", "seaClause", "seaExemption", "pool"]}
      banner={(record) => (
        <>
          <SeaNote record={record} />
          <Figures name={name} />
        </>
      )}
      aside={(record) => (
        <>
          <Reach record={record} />
          {can("upsellProposals") && <UpsellHints account={name} />}
          {can("creditProfiles") && <Credit account={name} />}
        </>
      )}
      tabs={(record) => [
        ...tab(
          "timeline",
          catalogue.find("timeline") ? (
            <div className="stack">
              <LogInteraction account={name} />
              <Timeline account={name} />
            </div>
          ) : null,
        ),
        ...tab("contacts", lists(["contacts"])),
        ...tab("orgChart", can("contacts") ? <OrgChart account={name} /> : null),
        ...tab(
          "group",
          can("accountRelations") ? (
            <div className="stack">
              <Hierarchy account={name} />
              {lists(["accountRelations"])}
            </div>
          ) : null,
        ),
        ...tab("interactions", lists(["interactions"])),
        ...tab(
          "mail",
          can("mailRecords") ? (
            <Letters account={name} to={(record["emails"] ?? []) as { address?: string }[]} />
          ) : null,
        ),
        ...tab("business", lists(BUSINESS)),
        ...tab("service", lists(SERVICE)),
        ...tab("care", lists(["careOccurrences", "visits"])),
        ...tab("loyalty", can("accountGrades") ? <Loyalty account={name} /> : null),
        ...tab("grade", can("accountGrades") ? <Grade account={name} /> : null),
        ...tab("owners", catalogue.find("poolClaims") ? <Owners account={name} /> : null),
        ...tab("history", <History resource={resource} name={name} />),
      ]}
    />
  );
}

/** What the relation is worth at a glance; a figure whose service is away just stays out. */
function Figures({ name }: { name: string }) {
  const { t } = useText();
  const catalogue = useCatalogue();
  const session = useSession();
  const can = (collection: string) => {
    const resource = catalogue.find(collection);
    return resource !== undefined && resource.has.aggregate && may(session, resource.permissions.read);
  };
  const account = `account = ${quote(name)}`;
  return (
    <div className="figures">
      {can("opportunities") && (
        <Tally
          label={t("account.openDeals")}
          collection="opportunities"
          filter={`${account} AND state = "OPEN"`}
          sum="amount"
        />
      )}
      {can("opportunities") && (
        <Tally
          label={t("account.won")}
          collection="opportunities"
          filter={`${account} AND state = "WON"`}
          sum="amount"
        />
      )}
      {can("contacts") && <Tally label={t("account.contacts")} collection="contacts" filter={account} />}
      {can("tickets") && (
        <Tally
          label={t("account.tickets")}
          collection="tickets"
          filter={`${account} AND NOT state = "CLOSED" AND NOT state = "RESOLVED"`}
        />
      )}
    </div>
  );
}

function Tally({
  label,
  collection,
  filter,
  sum,
}: {
  label: string;
  collection: string;
  filter: string;
  sum?: string;
}) {
  const { language } = useText();
  const rows = useQuery(aggregateQuery(collection, { filter, sum: sum ? [sum] : [] }));
  const row = rows.data?.[0];
  const money = Object.entries(row?.sums ?? {}).map(([key, amount]) =>
    formatShort(amount, key.split(":")[1] ?? "CNY", language),
  );
  return (
    <Figure label={label} note={sum && <span className="faint">× {row?.count ?? 0}</span>}>
      {rows.isError ? "—" : sum && money.length > 0 ? money.join(" + ") : (row?.count ?? "0")}
    </Figure>
  );
}

interface Phone {
  number?: string;
  extension?: string;
}

function Reach({ record }: { record: Record<string, unknown> }) {
  const { t } = useText();
  const phones = (record["phones"] as Phone[] | undefined) ?? [];
  const emails = (record["emails"] as { address?: string }[] | undefined) ?? [];
  if (phones.length + emails.length === 0) return null;
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("account.reach")}</h2>
      </div>
      <ul className="card-body reach">
        {phones.map((phone) => (
          <li key={phone.number}>
            <a href={`tel:${phone.number}`}>
              <PhoneOutlined aria-hidden="true" /> {phone.number} {phone.extension && `#${phone.extension}`}
            </a>
            <DialButton number={phone.number ?? ""} subject={String(record["name"])} />
          </li>
        ))}
        {emails.map((email) => (
          <li key={email.address}>
            <a href={`mailto:${email.address}`}>
              <MailOutlined aria-hidden="true" /> {email.address}
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}
