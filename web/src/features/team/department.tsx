import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue, Reference } from "@/kit/field-value";
import { GenericRecord } from "@/kit/generic-record";
import { gotQuery } from "@/kit/got";
import { Posts } from "@/kit/posts";
import { useResource } from "@/kit/queries";
import { Loaded } from "@/kit/states";

type Team = Schema<"workspace.ReadTeamResponse">;

/** A department, and the page of its team: who works there, what is posted and filed for it. */
export function DepartmentPage({ name }: { name: string }) {
  const { t } = useText();
  return (
    <GenericRecord
      resource={useResource("departments")}
      name={name}
      relates={["departments", "employees"]}
      more={() => [{ key: "team", label: t("team.title"), content: <TeamPage name={name} /> }]}
    />
  );
}

function TeamPage({ name }: { name: string }) {
  const { t } = useText();
  const employees = useResource("employees");
  const position = employees.fields.find((field) => field.name === "position");
  const skills = employees.fields.find((field) => field.name === "skills");
  const team = useQuery(gotQuery<Team>(["record", name, "team"], `/v1/${name}:team`));
  return (
    <Loaded query={team}>
      {({ members = [], posts = [], folders = [], departments = [] }) => (
        <div className="centre">
          <section className="card">
            <div className="card-head">
              <h2>{t("team.people", { count: members.length })}</h2>
            </div>
            <ul className="inbox">
              {members.map((one) => (
                <li key={one.employee} className="card-body">
                  <div className="grow stack-tight">
                    <span>
                      <Link to={`/${one.employee ?? ""}`}>{one.displayName}</Link>{" "}
                      {one.leads && <span className="tag tag-good">{t("team.leads")}</span>}
                    </span>
                    <span className="faint">
                      {position && one.position && <FieldValue field={position} value={one.position} />}
                    </span>
                    {skills && (one.skills ?? []).length > 0 && (
                      <FieldValue field={skills} value={one.skills} />
                    )}
                  </div>
                </li>
              ))}
            </ul>
          </section>
          <Posts title={t("team.posts")} posts={posts} none={t("team.noPosts")} />
          <section className="card">
            <div className="card-head">
              <h2>{t("team.documents")}</h2>
            </div>
            <ul className="inbox">
              {folders.map((folder) => (
                <li key={folder.name} className="card-body">
                  <Link to={`/documents?folder=${encodeURIComponent(folder.name ?? "")}`}>
                    {folder.displayName}
                  </Link>
                </li>
              ))}
              {folders.length === 0 && <li className="card-body faint">{t("team.noDocuments")}</li>}
            </ul>
          </section>
          {departments.length > 0 && (
            <section className="card">
              <div className="card-head">
                <h2>{t("team.beneath")}</h2>
              </div>
              <ul className="inbox">
                {departments.map((one) => (
                  <li key={one} className="card-body">
                    <Reference name={one} />
                  </li>
                ))}
              </ul>
            </section>
          )}
        </div>
      )}
    </Loaded>
  );
}
