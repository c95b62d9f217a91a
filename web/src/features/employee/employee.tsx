import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { KeysOf, SessionsOf } from "@/kit/access-of";
import { formatInstant } from "@/kit/dates";
import { encodeFilter } from "@/kit/filter";
import { GenericRecord } from "@/kit/generic-record";
import { gotQuery } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { useCatalogue, useResource, useSession } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { Empty, Loaded } from "@/kit/states";
import { useSuggestions } from "@/kit/suggestions";

type Owned = Schema<"workspace.CountEmployeeBelongingsResponse">;
type Held = Schema<"workspace.ListEmployeePermissionsResponse">;

/** A person; who answers for roles sees beside it what the person may do now. */
export function EmployeePage({ name }: { name: string }) {
  const { t } = useText();
  const session = useSession();
  return (
    <GenericRecord
      resource={useResource("employees")}
      name={name}
      more={() => [
        ...(may(session, "workspace.roles.explain")
          ? [{ key: "rights", label: t("rights.title"), content: <Rights name={name} /> }]
          : []),
        ...(may(session, "workspace.employees.endSessions")
          ? [{ key: "sessions", label: t("sessions.of"), content: <SessionsOf person={name} /> }]
          : []),
        ...(may(session, "workspace.apiKeys.read")
          ? [{ key: "keys", label: t("page.keys"), content: <KeysOf person={name} /> }]
          : []),
        ...(may(session, "workspace.employees.offboard")
          ? [{ key: "belongings", label: t("belongings.title"), content: <Belongings name={name} /> }]
          : []),
      ]}
    />
  );
}

/** What the person owns, by collection: what is left to hand over. */
function Belongings({ name }: { name: string }) {
  const { t, plural } = useText();
  const catalogue = useCatalogue();
  const owned = useQuery(gotQuery<Owned>(["record", name, "belongings"], `/v1/${name}:belongings`));
  return (
    <section className="card card-body stack">
      <Loaded query={owned}>
        {(answer: Owned) =>
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
                    cell: ({ collection }) => {
                      const resource = catalogue.find(collection ?? "");
                      const filter = encodeFilter({
                        groups: [[{ field: "owner", operator: "is", value: name }]],
                      });
                      return resource ? (
                        <Link to={`/${collection}?filter=${encodeURIComponent(filter)}`}>
                          {plural(resource.label)}
                        </Link>
                      ) : (
                        collection
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

const SHOWN = 200;

function Rights({ name }: { name: string }) {
  const { t, language, label } = useText();
  const catalogue = useCatalogue();
  const [typed, setTyped] = useState("");
  const held = useQuery(gotQuery<Held>(["record", name, "permissions"], `/v1/${name}:permissions`));
  const roles = useSuggestions({ collection: "roles", value: "code" });
  const levels =
    useResource("roles")
      .fields.find((field) => field.name === "grants")
      ?.fields.find((field) => field.name === "level")?.choices ?? [];
  const roleOf = (code: string) => roles.find(({ value }) => value === code)?.label ?? code;
  const levelOf = (value: string) => {
    const choice = levels.find((one) => one.value === value);
    return choice ? label(choice.label) : value;
  };
  return (
    <section className="card card-body stack">
      <Loaded query={held}>
        {(answer: Held) => {
          const all = (answer.permissions ?? []).map((one) => ({
            ...one,
            text: label(catalogue.permissionText(one.permission ?? "")),
          }));
          const found = all.filter(({ text, permission }) =>
            `${text} ${permission}`.toLowerCase().includes(typed.trim().toLowerCase()),
          );
          return (
            <>
              {!answer.active && <p className="note note-info">{t("rights.inactive")}</p>}
              <ul className="row" aria-label={t("rights.roles")}>
                {(answer.roles ?? []).map(({ role, untilTime }) => (
                  <li key={role} className="tag tag-calm">
                    {roleOf(role ?? "")}
                    {untilTime && ` · ${t("rights.until", { time: formatInstant(untilTime, language) })}`}
                  </li>
                ))}
              </ul>
              <SearchField label={t("rights.find")} value={typed} onChange={setTyped} />
              <p className="faint" role="status">
                {t("rights.count", { count: found.length })}
              </p>
              {found.length === 0 ? (
                <Empty title={t("rights.none")} />
              ) : (
                <PlainTable
                  caption={t("rights.title")}
                  rows={found.slice(0, SHOWN)}
                  keyOf={({ permission }) => permission ?? ""}
                  stacked
                  columns={[
                    { key: "what", title: t("rights.what"), row: true, cell: ({ text }) => text },
                    {
                      key: "reach",
                      title: t("role.reach"),
                      cell: ({ levels: reached }) => (reached ?? []).map(levelOf).join("、"),
                    },
                    {
                      key: "by",
                      title: t("rights.by"),
                      cell: ({ roles: by }) => (by ?? []).map(roleOf).join("、"),
                    },
                  ]}
                />
              )}
            </>
          );
        }}
      </Loaded>
    </section>
  );
}
