import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Modal } from "antd";
import { useState } from "react";
import { Link } from "react-router";
import { update } from "@/api/client";
import { may } from "@/api/session";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatDate, formatRelative } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { MenuButton } from "@/kit/menu-button";
import { useResource, useSession } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { EllipsisOutlined } from "@ant-design/icons";

type Chart = Schema<"customer.AccountOrgChart">;
type Person = Schema<"customer.AccountOrgChart.Person">;

/** Who reports to whom at the customer, who decides, whom we have lost touch with. */
export function OrgChart({ account }: { account: string }) {
  const { t } = useText();
  const client = useQueryClient();
  const chart = useQuery(gotQuery<Chart>(["record", account, "orgChart"], `/v1/${account}:orgChart`));
  const [moving, setMoving] = useState<Person>();
  const [over, setOver] = useState("");
  if (chart.isError) return <ErrorNote error={chart.error} onRetry={() => void chart.refetch()} />;
  if (chart.isPending) return <Skeleton lines={6} />;
  const people = chart.data.people ?? [];
  if (people.length === 0)
    return (
      <section className="card">
        <Empty title={t("orgChart.none")} text={t("orgChart.noneText")} />
      </section>
    );

  const known = new Set(people.map((person) => person.contact));
  const below = (contact: string) =>
    people.filter((person) =>
      contact ? person.reportsTo === contact : !person.reportsTo || !known.has(person.reportsTo),
    );
  /** Puts the person under another one; the server refuses a circle and nothing changes. */
  const move = async (person: Person, to: string) => {
    if (person.contact === to || (person.reportsTo ?? "") === to) return;
    try {
      await update(String(person.contact), { reportsTo: to || null }, person.etag);
      tell(t("orgChart.moved", { name: person.displayName }));
    } catch (error) {
      tell(t("orgChart.notMoved", { name: person.displayName }), "bad", { detail: messageOf(error) });
    } finally {
      void client.invalidateQueries({ queryKey: ["record", account, "orgChart"] });
    }
  };

  const branch = (contact: string, depth: number) => (
    <ul className={depth === 0 ? "org" : ""}>
      {below(contact).map((person) => (
        <li key={person.contact}>
          <div
            className={`org-drop ${over === person.contact ? "tree-over" : ""}`}
            onDragOver={(event) => {
              event.preventDefault();
              setOver(String(person.contact));
            }}
            onDragLeave={() => setOver("")}
            onDrop={(event) => {
              event.preventDefault();
              event.stopPropagation();
              setOver("");
              const moved = people.find(
                ({ contact }) => contact === event.dataTransfer.getData("text/plain"),
              );
              if (moved) void move(moved, String(person.contact));
            }}
          >
            <PersonCard
              person={person}
              onMove={() => setMoving(person)}
              onTop={() => void move(person, "")}
            />
          </div>
          {depth < people.length &&
            below(String(person.contact)).length > 0 &&
            branch(String(person.contact), depth + 1)}
        </li>
      ))}
    </ul>
  );

  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("orgChart.title")}</h2>
        <span className="faint">
          {(chart.data.keyPeople ?? 0) > 0
            ? t("orgChart.coverage", {
                percent: chart.data.coveragePercent,
                covered: chart.data.coveredPeople ?? 0,
                all: chart.data.keyPeople,
              })
            : t("orgChart.unknown")}
        </span>
      </div>
      <div className="card-body">
        {(chart.data.gaps ?? []).length > 0 && (
          <div className="advice advice-warn">
            <strong>{t("orgChart.gaps")}</strong>
            <ul>
              {(chart.data.gaps ?? []).map((gap, index) => (
                <li key={index}>
                  {t(`orgChart.gap.${gap.kind ?? ""}`, { defaultValue: gap.kind ?? "" })}{" "}
                  {gap.contact && <Reference name={gap.contact} />}
                </li>
              ))}
            </ul>
          </div>
        )}
        <div className="org-box">{branch("", 0)}</div>
      </div>
      {moving && (
        <MoveDialog
          person={moving}
          account={account}
          onClose={(to) => {
            if (to) void move(moving, to);
            setMoving(undefined);
          }}
        />
      )}
    </section>
  );
}

function PersonCard({ person, onMove, onTop }: { person: Person; onMove: () => void; onTop: () => void }) {
  const { t, language } = useText();
  const session = useSession();
  const resource = useResource("contacts");
  const role = resource.fields.find(({ name }) => name === "decisionRole");
  const movable = !person.left && may(session, resource.permissions.update);
  return (
    <article
      className={`org-person ${person.left ? "org-left" : ""}`}
      draggable={movable}
      onDragStart={(event) => event.dataTransfer.setData("text/plain", String(person.contact))}
    >
      <div className="row">
        <Link to={`/${person.contact}`} className="grow" draggable={false}>
          {person.displayName}
        </Link>
        {movable && (
          <MenuButton
            className="icon-button"
            label={t("orgChart.move", { name: person.displayName })}
            items={[
              { key: "under", label: t("orgChart.moveUnder"), run: onMove },
              ...(person.reportsTo ? [{ key: "top", label: t("orgChart.moveTop"), run: onTop }] : []),
            ]}
          >
            <EllipsisOutlined />
          </MenuButton>
        )}
      </div>
      <p className="faint">{[person.title, person.department].filter(Boolean).join(" · ")}</p>
      <p className="values">
        {role && person.decisionRole && (
          <span className="tag tag-info">
            <FieldValue field={role} value={person.decisionRole} />
          </span>
        )}
        {person.attitude !== undefined && person.attitude !== null && (
          <span className={`tag tag-${person.attitude > 0 ? "good" : person.attitude < 0 ? "bad" : "calm"}`}>
            {t(`orgChart.attitude.${String(person.attitude).replace("-", "m")}`)}
          </span>
        )}
        {person.left && (
          <span className="tag tag-calm">
            {t("orgChart.left", { day: formatDate(person.leftDate, language) })}
          </span>
        )}
      </p>
      {person.worries && (
        <p className="faint">
          {t("orgChart.worries")} {person.worries}
        </p>
      )}
      {!person.left && (
        <p className="faint">
          {person.counterpart && (
            <>
              {t("orgChart.counterpart")} <Reference name={person.counterpart} />
              {" · "}
            </>
          )}
          {person.lastInteractionTime
            ? t("orgChart.last", { time: formatRelative(person.lastInteractionTime, language) })
            : t("orgChart.never")}
        </p>
      )}
    </article>
  );
}

function MoveDialog({
  person,
  account,
  onClose,
}: {
  person: Person;
  account: string;
  onClose: (to?: string) => void;
}) {
  const { t } = useText();
  const [to, setTo] = useState<string>();
  return (
    <Modal
      open
      title={t("orgChart.move", { name: person.displayName })}
      okText={t("action.save")}
      cancelText={t("action.cancel")}
      okButtonProps={{ disabled: !to }}
      onOk={() => onClose(to)}
      onCancel={() => onClose()}
    >
      <div className="form-field">
        <label htmlFor="org-to">{t("orgChart.superior")}</label>
        <ReferencePicker
          id="org-to"
          collection="contacts"
          value={to}
          filter={`account = "${account}"`}
          onChange={(next) => setTo(Array.isArray(next) ? next[0] : next)}
        />
      </div>
    </Modal>
  );
}
