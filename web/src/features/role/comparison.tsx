import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { useCollectionName } from "@/kit/all-services";
import { gotQuery } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { titleOf, useCatalogue, useNamed, useResource } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Empty, Loaded } from "@/kit/states";

type Compared = Schema<"workspace.CompareRolesResponse">;

/** Two roles beside each other: what only one of them gives, and where they reach differently far. */
export function Comparison({ role }: { role: RecordJson }) {
  const { t, language, label, comma } = useText();
  const roles = useResource("roles");
  const catalogue = useCatalogue();
  const nameOf = useCollectionName();
  const [other, setOther] = useState("");
  const compared = useQuery({
    ...gotQuery<Compared>(
      ["record", role.name, "compare", other],
      `/v1/${role.name}:compare?${new URLSearchParams({ other }).toString()}`,
    ),
    enabled: other !== "",
  });
  const { record: otherRecord } = useNamed(other || undefined);
  const titles = [role, otherRecord].map((one) => titleOf(one, roles, language));
  const fields = roles.fields.find(({ name }) => name === "grants")?.fields ?? [];
  const wordOf = (field: string, value: string | undefined) => {
    const choice = fields
      .find(({ name }) => name === field)
      ?.choices.find((candidate) => candidate.value === value);
    return choice ? label(choice.label) : (value ?? "");
  };
  const levels = (values: string[] | undefined) =>
    (values ?? []).map((value) => wordOf("level", value)).join(comma);

  return (
    <section className="card card-body stack">
      <label className="stack" htmlFor="compare-with">
        {t("role.compareWith")}
      </label>
      <ReferencePicker
        id="compare-with"
        collection="roles"
        value={other}
        filter={`NOT name = "${role.name}"`}
        onChange={(value) => setOther(String(value ?? ""))}
      />
      {other && (
        <Loaded query={compared}>
          {({ both = [], onlyFirst = [], onlySecond = [], reaches = [] }: Compared) => (
            <>
              <p>{t("role.inBoth", { count: both.length })}</p>
              {[onlyFirst, onlySecond].map((permissions, index) => (
                <PlainTable
                  key={index}
                  caption={t("role.only", { role: titles[index] })}
                  rows={permissions}
                  keyOf={(permission) => permission}
                  columns={[
                    {
                      key: "permission",
                      title: `${t("role.only", { role: titles[index] })} (${permissions.length})`,
                      row: true,
                      cell: (permission) => label(catalogue.permissionText(permission)),
                    },
                  ]}
                />
              ))}
              {reaches.length === 0 ? (
                <Empty title={t("role.sameReach")} />
              ) : (
                <PlainTable
                  caption={t("role.reach")}
                  rows={reaches}
                  keyOf={({ collection, action }) => `${collection} ${action}`}
                  columns={[
                    {
                      key: "what",
                      title: t("role.reach"),
                      row: true,
                      cell: ({ collection, action }) =>
                        `${nameOf(collection?.split(".").at(-1) ?? "")} · ${wordOf("action", action)}`,
                    },
                    { key: "first", title: titles[0] ?? "", cell: ({ first }) => levels(first) || "—" },
                    { key: "second", title: titles[1] ?? "", cell: ({ second }) => levels(second) || "—" },
                  ]}
                />
              )}
            </>
          )}
        </Loaded>
      )}
    </section>
  );
}
