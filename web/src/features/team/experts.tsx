import { useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { useDictionaryLabel } from "@/kit/dictionary";
import { FieldInput } from "@/kit/field-input";
import { FieldValue, Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { Page } from "@/kit/page";
import { useResource, useSession } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { useSettled } from "@/kit/settled";
import { Empty, Loaded } from "@/kit/states";

type Found = Schema<"workspace.FindExpertsResponse">;
type Ground = Schema<"workspace.FindExpertsResponse.Ground">;

/** Who knows what: by a skill, or by words, with the signs that speak for each. */
export function ExpertsPage() {
  const { t } = useText();
  const id = useId();
  const session = useSession();
  const employees = useResource("employees");
  const skills = employees.fields.find((field) => field.name === "skills");
  const position = employees.fields.find((field) => field.name === "position");
  const [typed, setTyped] = useState("");
  const [skill, setSkill] = useState("");
  const q = useSettled(typed.trim());
  const asked = new URLSearchParams({ ...(q ? { q } : {}), ...(skill ? { skill } : {}) });
  const found = useQuery({
    ...gotQuery<Found>(["list", "employees", "experts", q, skill], `/v1/employees:experts?${asked}`),
    enabled: q !== "" || skill !== "",
  });
  return (
    <Page
      title={t("page.experts")}
      actions={
        session.employee && (
          <Link className="button" to={`/${session.employee}`}>
            {t("experts.mine")}
          </Link>
        )
      }
    >
      <div className="stack">
        <SearchField label={t("experts.search")} value={typed} onChange={setTyped} />
        {skills && (
          <label htmlFor={id} className="stack-tight">
            {t("experts.skill")}
            <FieldInput
              id={id}
              field={{ ...skills, many: false }}
              value={skill || undefined}
              onChange={(value) => setSkill(typeof value === "string" ? value : "")}
            />
          </label>
        )}
        {q || skill ? (
          <Loaded query={found}>
            {({ experts = [] }) =>
              experts.length === 0 ? (
                <Empty title={t("experts.none")} text={t("experts.noneText")} />
              ) : (
                <ul className="card inbox">
                  {experts.map((one) => (
                    <li key={one.employee} className="card-body">
                      <div className="grow stack-tight">
                        <span>
                          <Link to={`/${one.employee ?? ""}`}>{one.displayName}</Link>{" "}
                          <span className="faint">
                            <Reference name={one.department ?? ""} link={false} />
                            {position && one.position && (
                              <>
                                {" · "}
                                <FieldValue field={position} value={one.position} />
                              </>
                            )}
                          </span>
                        </span>
                        <span className="values">
                          {(one.grounds ?? []).map((ground, index) => (
                            <Sign key={index} ground={ground} />
                          ))}
                        </span>
                      </div>
                    </li>
                  ))}
                </ul>
              )
            }
          </Loaded>
        ) : (
          <Empty title={t("experts.ask")} text={t("experts.askText")} />
        )}
      </div>
    </Page>
  );
}

const DICTIONARIES: Record<string, string> = {
  SKILL: "skills",
  CERTIFICATE: "certificates",
  POSITION: "positions",
};

function Sign({ ground }: { ground: Ground }) {
  const { t } = useText();
  const kind = String(ground.kind ?? "");
  const entry = useDictionaryLabel(DICTIONARIES[kind] ?? "", ground.text ?? "");
  const words = DICTIONARIES[kind] ? entry : ground.text;
  const text = `${t(`experts.kinds.${kind}`)}：${words ?? ""}`;
  return <span className="tag">{ground.record ? <Link to={`/${ground.record}`}>{text}</Link> : text}</span>;
}
