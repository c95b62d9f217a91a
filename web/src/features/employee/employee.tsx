import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { KeysOf, SessionsOf } from "@/kit/access-of";
import { formatInstant } from "@/kit/dates";
import { GenericRecord } from "@/kit/generic-record";
import { gotQuery } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { useCatalogue, useResource, useSession } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { Empty, Loaded } from "@/kit/states";
import { useSuggestions } from "@/kit/suggestions";
import { Belongings, LeavingNote } from "./leaving";

type Held = Schema<"workspace.ListEmployeePermissionsResponse">;

/** Nearly everything names people; here stand only who works for the person and what the person leads. */
const RELATED = ["employees", "departments", "transfers"];

/** A person; who answers for roles sees beside it what the person may do now. */
export function EmployeePage({ name }: { name: string }) {
  const { t } = useText();
  const session = useSession();
  return (
    <GenericRecord
      resource={useResource("employees")}
      name={name}
      relates={RELATED}
      banner={(person) => <LeavingNote person={person} />}
      more={(person) => [
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
          ? [{ key: "belongings", label: t("belongings.title"), content: <Belongings person={person} /> }]
          : []),
      ]}
    />
  );
}

const SHOWN = 200;

function Rights({ name }: { name: string }) {
  const { t, language, label, comma } = useText();
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
                      cell: ({ levels: reached }) => (reached ?? []).map(levelOf).join(comma),
                    },
                    {
                      key: "by",
                      title: t("rights.by"),
                      cell: ({ roles: by }) => (by ?? []).map(roleOf).join(comma),
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
