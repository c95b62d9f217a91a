import { useQueryClient } from "@tanstack/react-query";
import { DatePicker, Input, Modal, Radio } from "antd";
import { useState } from "react";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { fromIso } from "@/kit/dates";
import { post } from "@/kit/got";
import { Refused } from "@/kit/states";
import { messageOf } from "@/kit/verbs";

type Hit = Schema<"customer.CollisionHit">;
type Action = "REQUEST_COLLABORATION" | "DISPUTE" | "CLAIM";

const PATHS: Record<Action, string> = {
  REQUEST_COLLABORATION: "/v1/accounts:requestCollaboration",
  DISPUTE: "/v1/duplicateCases:dispute",
  CLAIM: "/v1/accounts:claim",
};

/** A fair way in to a customer that one may not see: ask to share it, dispute it, or claim it out of the sea. */
export function HitActions({ hit }: { hit: Hit }) {
  const { t } = useText();
  const [asking, setAsking] = useState<Action>();
  const [done, setDone] = useState<RecordJson>();
  if (done)
    return (
      <Link to={`/${done.name}`} target="_blank">
        {t(done.name.startsWith("accounts/") ? "collision.openAccount" : "collision.openCase")}
      </Link>
    );
  return (
    <span className="row">
      {(hit.actions ?? [])
        .filter((action): action is Action => action in PATHS)
        .map((action) => (
          <button key={action} type="button" className="button" onClick={() => setAsking(action)}>
            {t(`collision.action.${action}`)}
          </button>
        ))}
      {asking && (
        <Ask
          action={asking}
          token={hit.token ?? ""}
          onClose={(record) => {
            setAsking(undefined);
            setDone(record);
          }}
        />
      )}
    </span>
  );
}

function Ask({
  action,
  token,
  onClose,
}: {
  action: Action;
  token: string;
  onClose: (record?: RecordJson) => void;
}) {
  const { t } = useText();
  const client = useQueryClient();
  const [statement, setStatement] = useState("");
  const [access, setAccess] = useState("WORK");
  const [until, setUntil] = useState("");
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const needed = action === "DISPUTE" && statement.trim() === "";

  const submit = async () => {
    setBusy(true);
    try {
      const record = await post<RecordJson>(PATHS[action], {
        token,
        ...(action === "CLAIM" ? {} : { statement: statement.trim() }),
        ...(action === "REQUEST_COLLABORATION"
          ? { access, ...(until ? { untilDate: fromIso(until) } : {}) }
          : {}),
      });
      void client.invalidateQueries({ queryKey: ["list", "duplicateCases"] });
      onClose(record);
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <Modal
      open
      title={t(`collision.action.${action}`)}
      okText={t(`collision.action.${action}`)}
      cancelText={t("action.cancel")}
      okButtonProps={{ disabled: needed, loading: busy }}
      onOk={() => void submit()}
      onCancel={() => onClose()}
    >
      <div className="stack">
        <p>{t(`collision.explain.${action}`)}</p>
        <Refused>{failure}</Refused>
        {action === "REQUEST_COLLABORATION" && (
          <>
            <Radio.Group
              aria-label={t("collision.access")}
              value={access}
              options={["READ", "WORK"].map((value) => ({
                value,
                label: t(`collision.accessKind.${value}`),
              }))}
              onChange={(event) => setAccess(String(event.target.value))}
            />
            <div className="form-field">
              <label htmlFor="hit-until">{t("collision.until")}</label>
              <DatePicker
                id="hit-until"
                onChange={(day) => setUntil(day ? day.format("YYYY-MM-DD") : "")}
                format="YYYY-MM-DD"
              />
            </div>
          </>
        )}
        {action !== "CLAIM" && (
          <div className="form-field">
            <label htmlFor="hit-statement">
              {t(action === "DISPUTE" ? "collision.statement" : "collision.reason")}
              {action === "DISPUTE" && (
                <span className="required" aria-hidden="true">
                  {" "}
                  *
                </span>
              )}
            </label>
            <Input.TextArea
              id="hit-statement"
              rows={4}
              maxLength={5000}
              value={statement}
              onChange={(event) => setStatement(event.target.value)}
            />
          </div>
        )}
      </div>
    </Modal>
  );
}
